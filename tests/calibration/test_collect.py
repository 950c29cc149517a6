"""Collecting statistics: right, the same however it is done, and in constant memory."""

from __future__ import annotations

import subprocess
import sys
import weakref
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeport.calibration import collect as collect_module
from edgeport.calibration.collect import collect, watchable
from edgeport.calibration.data import ArraySamples, FunctionSamples, rebatch
from edgeport.calibration.observers import OBSERVERS
from edgeport.contracts import Calibration, Sample
from edgeport.errors import AlreadyQuantizedError, BackendError, CalibrationError

NETWORK = """(float[batch,3,8,8] x) => (float[batch,5] z) {
    c = Conv<pads=[1,1,1,1]>(x, w)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    z = Gemm<transB=1>(f, wg)
}"""


@pytest.fixture
def network(model_text, random):
    return model_text(NETWORK, {"w": random(4, 3, 3, 3), "wg": random(5, 4)})


@pytest.fixture
def samples(random):
    return ArraySamples({"x": random(20, 3, 8, 8)}, batch_size=8)


def test_every_activation_is_watched_with_what_it_really_was(network, samples, random, open_model):
    calibration = collect(network, samples, open_model)
    assert list(calibration.statistics) == ["x", "c", "r", "p", "f", "z"]
    assert (calibration.model_digest, calibration.samples_fingerprint) == (network.digest, samples.fingerprint)
    assert calibration.sample_count == 20

    x = random(20, 3, 8, 8)
    with open_model(network.path) as run:
        z = run({"x": x})["z"]
    for name, array in {"x": x, "z": z}.items():
        extremes = calibration.statistics[name]["extremes"]
        assert (extremes["minimum"], extremes["maximum"]) == (array.min(), pytest.approx(array.max(), rel=1e-6))
        assert extremes["count"] == calibration.statistics[name]["histogram"]["counts"].sum() == array.size
    assert calibration.statistics["r"]["extremes"]["minimum"] == 0 > calibration.statistics["c"]["extremes"]["minimum"]


def test_the_model_file_and_its_folder_are_left_as_they_were(network, samples, open_model):
    before = network.path.read_bytes()
    collect(network, samples, open_model)
    assert network.path.read_bytes() == before
    assert list(network.path.parent.iterdir()) == [network.path]


def as_bytes(calibration):
    return {
        (tensor, observer, name): array.tobytes()
        for tensor, observers in calibration.statistics.items()
        for observer, state in observers.items()
        for name, array in state.items()
    }


@pytest.mark.parametrize("cut", [(1, 1 << 20), (3, 5000), (20, 5000), (20, 1)], ids=str)
def test_batches_and_slices_do_not_show(model_text, random, open_model, monkeypatch, cut):
    batch_size, slice_bytes = cut
    # No sums here: a runtime may add in another order when the batch is another.
    model = model_text("(float[batch,100] x) => (float[batch,100] y) { r = Relu(x) y = Mul(r, x) }")
    samples = ArraySamples({"x": random(20, 100)})
    expected = collect(model, samples, open_model)
    monkeypatch.setattr(collect_module, "SLICE_BYTES", slice_bytes)
    assert collect(model, rebatch(samples, batch_size), open_model).digest == expected.digest


def test_groups_do_not_show(network, samples, open_model, monkeypatch):
    expected = collect(network, samples, open_model)
    monkeypatch.setattr(collect_module, "FETCH_BYTES", 1200)
    assert collect(network, samples, open_model).digest == expected.digest


def recording(open_model, calls):
    """As `open_model`; keeps the number of samples and of outputs of each call."""

    @contextmanager
    def opened(path):
        with open_model(path) as run:

            def recorded(feeds):
                outputs = run(feeds)
                calls.append((len(feeds["x"]), len(outputs)))
                return outputs

            yield recorded

    return opened


def test_a_large_batch_is_cut(network, samples, open_model, monkeypatch):
    calls = []
    monkeypatch.setattr(collect_module, "SLICE_BYTES", 3 * 2200)
    collect(network, samples, recording(open_model, calls))
    assert max(rows for rows, _ in calls) == 3


def test_very_many_large_tensors_come_in_groups(network, samples, open_model, monkeypatch):
    calls, events = [], []
    monkeypatch.setattr(collect_module, "FETCH_BYTES", 1200)
    collect(network, samples, recording(open_model, calls), on_progress=events.append)
    assert {outputs for _, outputs in calls[2:]} == {1, 3}  # the first two asked for the shapes; f has the values of p
    assert [(event.done, event.total) for event in events][-1] == (40, 40)


@pytest.mark.parametrize(("at_once", "groups"), [(1, {3}), (2, {1})])
def test_what_calls_side_by_side_return_counts_together(model_text, random, open_model, monkeypatch, at_once, groups):
    model = model_text("(float[4,25] x) => (float[4,25] c) { a = Relu(x) b = Neg(a) c = Abs(b) }")  # 400 bytes each
    calls = []
    monkeypatch.setattr(collect_module, "FETCH_BYTES", 1200)
    samples = ArraySamples({"x": random(24, 25)}, batch_size=4)
    collect(model, samples, recording(open_model, calls), at_once=at_once)
    assert {outputs for _, outputs in calls[1:]} == groups  # the first asked for the shapes


@pytest.mark.parametrize(("slice_bytes", "beside"), [(1, {1}), (3 * 2200, set())])
def test_calls_that_hold_one_sample_go_side_by_side(network, samples, open_model, monkeypatch, slice_bytes, beside):
    alone = collect(network, samples, open_model)
    calls = []
    monkeypatch.setattr(collect_module, "SLICE_BYTES", slice_bytes)
    found = collect(network, samples, open_model, at_once=2, open_side_by_side=recording(open_model, calls))
    assert {rows for rows, _ in calls} == beside
    assert found.digest == alone.digest


def test_a_call_stays_one_sample_where_two_at_once_hold_too_much(model_text, random, open_model, monkeypatch):
    model = model_text("(float[batch,20] x) => (float[batch,20] y) { s = ReduceSum(x) y = Add(x, s) }")
    monkeypatch.setattr(collect_module, "FETCH_BYTES", 240)  # a sample's y alone has 80
    samples, calls = ArraySamples({"x": random(8, 20)}, batch_size=4), []
    collect(model, samples, recording(open_model, calls), at_once=2)
    assert {rows for rows, _ in calls[2:]} == {1}  # the first two asked for the shapes


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_batch_is_gone_before_the_next_is_read(network, random, open_model, monkeypatch, at_once):
    read, held = [], []

    class Batches:
        fingerprint = "batches"

        def batch(self, index):
            x = random(6, 3, 8, 8, seed=index)
            read.append(weakref.ref(x))
            return Sample(feeds={"x": x})

        def __iter__(self):
            for index in range(3):
                held.extend(one for one in read if one() is not None)
                yield self.batch(index)

        def __len__(self):
            return 18

    monkeypatch.setattr(collect_module, "SLICE_BYTES", 1)  # a sample for each call, side by side
    collect(network, Batches(), open_model, at_once=at_once)
    assert len(read) == 4  # the first twice, for the shapes
    assert not held


def test_progress_is_told_in_samples(network, samples, open_model):
    events = []
    collect(network, samples, open_model, on_progress=events.append)
    assert [(event.stage, event.done, event.total) for event in events] == [
        ("calibrate", 8, 20),
        ("calibrate", 16, 20),
        ("calibrate", 20, 20),
    ]


def test_a_fixed_batch_is_never_cut(model_text, random, open_model, monkeypatch):
    model = model_text("(float[4,3] x) => (float[4,3] y) { y = Relu(x) }")
    monkeypatch.setattr(collect_module, "SLICE_BYTES", 1)
    calls = []
    collect(model, ArraySamples({"x": random(8, 3)}, batch_size=4), recording(open_model, calls))
    assert {rows for rows, _ in calls} == {4}


def test_a_batch_that_is_free_by_name_alone_is_called_with_one_sample(model_text, random, open_model):
    @contextmanager
    def stubborn(path):
        with open_model(path) as run:

            def once(feeds):
                if len(feeds["x"]) > 1:
                    raise BackendError(asked="run", found="a Reshape to [1, 3]", fix="export again")
                return run(feeds)

            yield once

    model = model_text("(float[batch,3] x) => (float[batch,3] y) { y = Relu(x) }")
    samples = ArraySamples({"x": random(8, 3)}, batch_size=4)
    assert collect(model, samples, stubborn).digest == collect(model, samples, open_model).digest


def test_ragged_samples(model_text, open_model, tmp_path):
    model = model_text("(float[batch,seq] x) => (float[batch,seq] y) { r = Relu(x) y = Neg(r) }")
    (tmp_path / "ragged_for_test_collect.py").write_text(
        "import numpy as np\n"
        "def f():\n"
        "    for length in (2, 5, 3):\n"
        "        yield {'x': np.full((2, length), length, np.float32)}\n"
    )
    samples = FunctionSamples("ragged_for_test_collect:f", search_path=tmp_path)
    extremes = collect(model, samples, open_model).statistics["y"]["extremes"]
    assert (extremes["minimum"], extremes["maximum"], extremes["count"]) == (-5, -2, 20)


def test_constants_shapes_and_integers_are_not_watched(model_text, random):
    model = model_text(
        """(float[batch,3] x) => (float[batch,3] y) {
            two = Constant<value = float {2.0}>()
            scaled = Mul(w, two)
            shape = Shape(x)
            filled = ConstantOfShape<value = float[1] {-1.0}>(shape)
            added = Add(x, scaled)
            y = Add(added, filled)
        }""",
        {"w": random(3)},
    )
    assert watchable(model) == ["x", "added", "y"]


def test_a_tensor_that_only_a_subgraph_reads_is_watched(model_text):
    model = model_text(
        """(float[batch,3] x) => (float[batch,3] y) {
            r = Relu(x)
            d = If(c) <then_branch = t () => (float[batch,3] a) { a = Neg(r) },
                       else_branch = e () => (float[batch,3] b) { b = Identity(r) }>
            y = Abs(d)
        }""",
        {"c": np.ones((), bool)},
    )
    assert watchable(model) == ["x", "r", "d", "y"]


def test_a_tensor_of_unknown_rank_is_watched(model_text, open_model, random):
    model = model_text(
        """(float[2,4] x, int64[2] s) => (float[n] y) {
            r = Reshape(x, s)
            n = Neg(r)
            axes = Constant<value = int64[1] {1}>()
            y = ReduceSum<keepdims=0>(n, axes)
        }"""
    )
    samples = ArraySamples({"x": random(2, 4), "s": np.array([2, 4])})
    assert collect(model, samples, open_model, tensors=["n"]).statistics["n"]["extremes"]["count"] == 8


def test_only_the_tensors_that_are_named(network, samples, open_model):
    calibration = collect(network, samples, open_model, tensors=["f", "c"])
    assert list(calibration.statistics) == ["c", "f"]


def test_an_unknown_tensor_is_refused(model_text, open_model, random):
    model = model_text("(float[batch,3] x) => (float[batch,3] y) { relu_out = Relu(x) y = Neg(relu_out) }")
    with pytest.raises(CalibrationError, match="did you mean 'relu_out'"):
        collect(model, ArraySamples({"x": random(2, 3)}), open_model, tensors=["relu_ou"])


def test_only_the_observers_that_are_named(network, samples, open_model):
    calibration = collect(network, samples, open_model, observers={"extremes": OBSERVERS["extremes"]})
    assert set(calibration.statistics["c"]) == {"extremes"}


def test_a_quantized_model_is_refused(model_text, samples, open_model):
    model = model_text(
        "(float[batch,3,8,8] x, float s, uint8 z) => (float[batch,3,8,8] y) "
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
    )
    with pytest.raises(AlreadyQuantizedError, match="QuantizeLinear"):
        collect(model, samples, open_model)


def test_a_tensor_that_is_never_finite_is_named(model_text, open_model):
    model = model_text("(float[batch,3] x) => (float[batch,3] y) { h = Log(x) y = Relu(h) }")
    with pytest.raises(CalibrationError, match="calibrate tensor 'h'; found NaN or Inf in all of its 6 values"):
        collect(model, ArraySamples({"x": np.full((2, 3), -1.0, np.float32)}), open_model)


def test_a_tensor_that_is_always_empty_is_named(model_text, open_model):
    model = model_text("(float[batch,past] x) => (float[batch,past] y) { y = Relu(x) }")
    with pytest.raises(CalibrationError, match="'x'; found no values: it was empty in every sample"):
        collect(model, ArraySamples({"x": np.zeros((2, 0), np.float32)}), open_model)


def test_a_tensor_that_is_empty_beside_others_has_no_range(model_text, open_model):
    model = model_text(
        "(float[batch,3] x) => (float[batch,3] y) <int64[1] no = {0}, int64[1] one = {1}> "
        "{ none = Slice(x, no, no, one) both = Concat<axis = 1>(x, none) y = Relu(both) }"
    )
    kept = collect(model, ArraySamples({"x": np.ones((2, 3), np.float32)}), open_model)
    assert int(kept.statistics["none"]["extremes"]["count"]) == 0
    assert int(kept.statistics["both"]["extremes"]["count"]) == 6


def test_a_model_may_compute_no_floats(model_text, open_model):
    model = model_text("(float[batch,3] x) => (int64[batch,1] y) { y = ArgMax<axis = 1>(x) }")
    kept = collect(model, ArraySamples({"x": np.ones((2, 3), np.float32)}), open_model)
    assert set(kept.statistics) == {"x"}
    whole_numbers = model_text("(int64[batch,3] x) => (int64[batch,3] y) { y = Neg(x) }")
    assert collect(whole_numbers, ArraySamples({"x": np.ones((2, 3), np.int64)}), open_model).statistics == {}


def test_an_empty_sample_set_is_refused(network, open_model, tmp_path):
    (tmp_path / "empty_for_test_collect.py").write_text("def f():\n    return []\n")
    with pytest.raises(CalibrationError, match="an empty sample set"):
        collect(network, FunctionSamples("empty_for_test_collect:f", search_path=tmp_path), open_model)


def test_a_runtime_that_drops_an_output_is_refused(network, samples, open_model):
    @contextmanager
    def forgetful(path):
        with open_model(path) as run:
            yield lambda feeds: dict(list(run(feeds).items())[1:])

    with pytest.raises(CalibrationError, match="'c'; found a runtime that returned no such output"):
        collect(network, samples, forgetful)


def test_a_calibration_survives_being_saved(network, samples, open_model, tmp_path):
    calibration = collect(network, samples, open_model)
    calibration.save(tmp_path / "calibration.safetensors")
    assert Calibration.load(tmp_path / "calibration.safetensors").digest == calibration.digest


def test_memory_does_not_grow_with_the_number_of_samples(model_text, random):
    model = model_text(
        "(float[batch,3,32,32] x) => (float[batch,16,32,32] z) "
        "{ c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, v) z = Relu(d) }",
        {"w": random(16, 3, 3, 3), "v": random(16, 16, 3, 3)},
    )

    def peak(count):
        program = [sys.executable, str(Path(__file__).with_name("measure_memory.py")), str(model.path), str(count)]
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)

    # All activations of 900 samples would take 240 MB more.
    assert peak(1000) <= 1.05 * peak(100)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_with_a_fixed_batch_sees_every_sample(model_text, open_model, batch):
    model = model_text(f"(float[{batch}, 3] x) => (float[{batch}, 3] y) {{ y = Neg(x) }}")
    samples = ArraySamples({"x": np.arange(30, dtype=np.float32).reshape(10, 3)})
    done = []

    calibration = collect(model, samples, open_model, on_progress=lambda event: done.append(event.done))

    state = calibration.statistics["y"]["extremes"]
    assert (state["minimum"], state["maximum"]) == (-29.0, 0.0)
    assert state["count"] == 3 * -(-10 // batch) * batch
    assert calibration.sample_count == done[-1] == 10
