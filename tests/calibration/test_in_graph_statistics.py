"""Summing large tensors up where the model runs: nothing of it shows in a calibration."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from edgeport.calibration import collect as collect_module
from edgeport.calibration import observer_feed
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.observers import OBSERVERS, histogram
from edgeport.contracts import Sample
from edgeport.errors import BackendError, EdgeportError

NONE_SUMMED_UP = 1 << 62


@pytest.fixture(params=[("extremes", "averages"), ("extremes", "histogram", "averages")], ids=["ends", "counted"])
def observers(request, monkeypatch):
    """With limits so low that a tensor of 20 values is large, and every third or so is counted."""
    monkeypatch.setattr(histogram, "MOST_VALUES", 8)
    monkeypatch.setattr(collect_module, "MOST_VALUES", 8)
    return {name: OBSERVERS[name] for name in request.param}


@pytest.fixture
def outputs(open_model):
    """`outputs(model, samples, observers, above)`: the calibration, and the names of what the last call returned."""

    def found(model, samples, observers, above, **options):
        returned = []

        @contextmanager
        def opened(path):
            with open_model(path) as run:

                def told(feeds):
                    try:
                        outputs = run(feeds)
                    except Exception as error:
                        raise BackendError(asked="run", found=str(error), fix="-") from error
                    returned[:] = sorted(outputs)
                    return outputs

                yield told

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collect_module, "WHOLE_VALUES", above)
            patch.setattr(collect_module, "COUNTED_VALUES", above)
            return collect(model, samples, opened, observers=observers, **options), returned

    return found


class Batches:
    """A sample set of such batches, each of other sizes."""

    fingerprint = "batches"

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return (Sample(feeds=feeds) for feeds in self.batches)

    def __len__(self):
        return sum(len(feeds["x"]) for feeds in self.batches)


def uneven(random, *lengths):
    return Batches(*({"x": random(2, length, seed=length)} for length in lengths))


RELU = "(float[batch,n] x) => (float[batch,n] y) { r = Relu(x) y = Neg(r) }"


def summed_up(returned):
    return {name.partition("#")[0] for name in returned if "#edgeport.lowest" in name}


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_in_any_batch(model_text, random, outputs, observers, batch):
    model, samples = model_text(RELU), ArraySamples({"x": random(16, 20)}, batch_size=batch)
    found, returned = outputs(model, samples, observers, 10)
    assert summed_up(returned) == {"r", "y"}
    assert {"r", "y"}.isdisjoint(returned)
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


MODELS = {
    "samples in the second axis": "(float[batch,20] x) => (float[n,m] y) { t = Transpose<perm=[1,0]>(x) "
    "r = Relu(t) y = Transpose<perm=[1,0]>(r) }",
    "parts of samples in the first": "(float[batch,20] x) => (float[n,m] y) { s = Constant<value_ints=[-1,10]>() "
    "t = Reshape(x, s) y = Neg(t) }",
    "a fixed batch": "(float[4,20] x) => (float[4,20] y) { y = Neg(x) }",
    "float64 beside float32": "(float[batch,20] x) => (double[batch,20] y) { r = Neg(x) y = Cast<to=11>(r) }",
}


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_whatever_the_shape_and_the_type(model_text, random, outputs, observers, text):
    model, samples = model_text(text), ArraySamples({"x": np.clip(random(16, 20), -1, 1)}, batch_size=4)
    found, returned = outputs(model, samples, observers, 15)
    assert summed_up(returned)
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


@pytest.mark.parametrize("limit", [{"_CALLS": 3}, {"_HELD_BYTES": 50}], ids=str)
def test_how_many_calls_are_shown_together_does_not_show(model_text, random, outputs, observers, monkeypatch, limit):
    model, samples = model_text(RELU), ArraySamples({"x": random(16, 20)}, batch_size=1)
    expected, _ = outputs(model, samples, observers, 10)
    for name, value in limit.items():
        monkeypatch.setattr(observer_feed, name, value)
    assert outputs(model, samples, observers, 10)[0].digest == expected.digest


def test_what_is_only_rearranged_is_summed_up_once(model_text, random, outputs):
    text = """(float[batch,20] x) => (float[n,m] y) {
        r = Neg(x) s = Constant<value_ints=[-1,4,5]>() a = Reshape(r, s) t = Transpose<perm=[1,0,2]>(a)
        n = Neg(t) y = Flatten<axis=1>(n)
    }"""
    observers = {name: OBSERVERS[name] for name in ("extremes", "averages")}
    model, samples = model_text(text), ArraySamples({"x": random(16, 20)}, batch_size=4)
    found, returned = outputs(model, samples, observers, 15)
    assert summed_up(returned) == {"r"}
    assert not {"a", "t"} & set(returned)
    alone = {
        name: outputs(model, samples, observers, NONE_SUMMED_UP, tensors=[name])[0].statistics[name]
        for name in found.statistics
    }
    assert set(alone) == {"x", "r", "a", "t", "n", "y"}
    assert found.digest == replace(found, statistics=alone).digest


@pytest.mark.parametrize("lengths", [(2, 10), (10, 2)], ids=str)
def test_how_long_the_first_sample_is_does_not_show(model_text, random, outputs, observers, lengths):
    model = model_text("(float[batch,n,4] x) => (float[batch,4,n] y) { r = Neg(x) y = Transpose<perm=[0,2,1]>(r) }")
    batches = [{"x": random(1, length, 4, seed=length)} for length in lengths]
    found, expected = (outputs(model, Batches(*order), observers, 15)[0] for order in (batches, batches[::-1]))
    assert found.digest == expected.digest


def test_in_each_call_other_values_are_counted(model_text, random, outputs, monkeypatch):
    monkeypatch.setattr(histogram, "MOST_VALUES", 8)
    x = np.arange(20, dtype=np.float32) + random(64, 20).clip(0, 0.1)
    model = model_text("(float[1,20] x) => (float[1,20] y) { y = Identity(x) r = Neg(x) }")
    found, returned = outputs(model, ArraySamples({"x": x}), OBSERVERS, 10)
    assert summed_up(returned) == {"r"}
    for name in ("x", "r"):  # one that is fed, and one that is summed up
        state = found.statistics[name]["histogram"]
        assert state["counts"].sum() < 64 * 20 / 2
        whole = np.floor(np.abs(histogram.left_edges(state)[state["counts"] > 0]))
        assert set(range(19)) <= set(whole)


def test_a_mask_whose_sum_no_float_holds_is_still_summed_up(model_text, random, outputs, observers):
    mask = np.full(20, -3.4e38, np.float32)
    model = model_text("(float[batch,20] x) => (float[batch,20] y) { y = Min(x, mask) }", {"mask": mask})
    samples = ArraySamples({"x": random(4, 20)})
    found, returned = outputs(model, samples, observers, 10)
    assert summed_up(returned) == {"y"}
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


def test_huge_values_of_both_signs_whose_sum_is_no_number(model_text, random, outputs, observers):
    huge = np.float32(3e38)
    model = model_text("(float[batch,20] x) => (float[batch,20] y) { y = Mul(x, huge) }", {"huge": huge})
    samples = ArraySamples({"x": np.clip(random(16, 20), -1, 1)}, batch_size=4)
    found, _ = outputs(model, samples, observers, 15)
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_what_is_not_finite_is_counted(model_text, random, outputs, observers, odd, place):
    x = random(16, 20)
    x[9, place] = odd
    model = model_text("(float[batch,20] x) => (float[batch,20] y) { r = Neg(x) y = Exp(x) }")
    samples = ArraySamples({"x": x}, batch_size=4)
    found, returned = outputs(model, samples, observers, 10)
    assert "r" in returned  # from then on
    assert int(found.statistics["r"]["extremes"]["nonfinite"]) == 1
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


@pytest.mark.parametrize("lengths", [(20, 40, 12), (20, 0, 30)], ids=["other lengths", "none"])
def test_samples_of_other_sizes(model_text, random, outputs, observers, lengths):
    model, samples = model_text(RELU), uneven(random, *lengths)
    found, _ = outputs(model, samples, observers, 10)
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


def test_before_its_operators_had_their_form(random, outputs, observers, tmp_path):
    import onnx

    from edgeport.onnx_files import open_onnx

    for opset, summed in ((12, set()), (13, {"r", "y"}), (17, {"r", "y"}), (18, {"r", "y"})):
        proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {RELU}')
        path = tmp_path / f"{opset}.onnx"
        path.write_bytes(proto.SerializeToString())
        model, samples = open_onnx(path), ArraySamples({"x": random(6, 20)})
        found, returned = outputs(model, samples, observers, 10)
        assert summed_up(returned) == summed
        assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP)[0].digest


def test_a_state_is_fed_back_though_it_is_large(model_text, random, outputs, observers):
    from dataclasses import replace

    text = "(float[1,20] x, float[1,20] h) => (float[1,20] y, float[1,20] hn) { hn = Add(x, h) y = Relu(hn) }"
    model = replace(model_text(text), state={"hn": "h"})
    samples, initial = ArraySamples({"x": random(6, 20)}, batch_size=1), {"h": np.zeros((1, 20), np.float32)}
    found, returned = outputs(model, samples, observers, 10, initial=initial, at_once=2)  # one waits for the other
    assert "y" not in returned
    assert found.digest == outputs(model, samples, observers, NONE_SUMMED_UP, initial=initial)[0].digest


def test_an_observer_that_needs_the_tensor_gets_it(model_text, random, outputs):
    class Last:
        def __init__(self):
            self.array = np.zeros(0)

        def update(self, array):
            self.array = np.array(array)

        def state(self):
            return {"array": self.array}

    model, samples = model_text(RELU), ArraySamples({"x": random(1, 20)})
    found, returned = outputs(model, samples, {"extremes": OBSERVERS["extremes"], "last": Last}, 10)
    assert not summed_up(returned)
    np.testing.assert_array_equal(found.statistics["r"]["last"]["array"], np.maximum(random(1, 20), 0))


@pytest.mark.parametrize(("batch", "at_once"), [("batch", 1), (1, 2)], ids=["alone", "side by side"])
def test_a_sample_that_fails_fails(model_text, outputs, observers, batch, at_once):
    text = f"(int64[{batch},20] x) => (float[{batch},20,4] y) {{ y = Gather(table, x) }}"
    model = model_text(text, {"table": np.ones((3, 4), np.float32)})
    x = np.ones((9, 20), np.int64)
    x[4, 3] = 5
    with pytest.raises(EdgeportError, match="out of data bounds"):
        outputs(model, ArraySamples({"x": x}, batch_size=1), observers, 10, at_once=at_once)


@pytest.mark.parametrize("odd", [0.5, np.nan, np.inf])
def test_calls_side_by_side_do_not_show(model_text, random, outputs, observers, odd):
    x = random(32, 20)
    x[9, 7] = odd  # where it is not finite, the model is opened anew while another call is on its way
    model = model_text("(float[1,20] x) => (float[1,20] y) { r = Neg(x) y = Exp(x) }")
    samples = ArraySamples({"x": x}, batch_size=8)
    found, returned = outputs(model, samples, observers, 10, at_once=3)
    assert ("r" in returned) == (odd != 0.5)
    assert found.digest == outputs(model, samples, observers, 10)[0].digest


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("fails", [False, True], ids=["not finite", "an error"])
def test_a_model_is_gone_before_it_is_opened_anew(model_text, open_model, at_once, fails):
    class Memory:
        """Held as long as somebody can call the runtime."""

    held, found = [], []

    @contextmanager
    def opened(path):
        found.append([one() for one in held if one() is not None])
        with open_model(path) as run:
            memory = Memory()
            held.append(weakref.ref(memory))

            def runs(feeds, memory=memory):
                if fails and len(held) == 2 and np.isnan(feeds["x"]).any():
                    raise BackendError(asked="run", found="a sample that can't be summed up", fix="-")
                return run(feeds)

            del memory
            yield runs

    x = np.ones((4, 5000), np.float32)
    x[2, 7] = np.nan
    model = model_text("(float[1,5000] x) => (float[1,5000] y) { y = Neg(x) }")
    collect(model, ArraySamples({"x": x}), opened, observers={"extremes": OBSERVERS["extremes"]}, at_once=at_once)
    assert found == [[], [], []]  # for the shapes, and twice to watch


def test_calls_are_really_side_by_side(model_text, random, open_model):
    met = threading.Barrier(2)

    @contextmanager
    def opened(path):
        with open_model(path) as run:

            def together(feeds):
                if feeds["x"][0, 0] == 7:
                    met.wait(timeout=10)
                return run(feeds)

            yield together

    x = np.full((4, 20), 7, np.float32)
    x[0] = 0  # the model's shapes are found by this one
    model = model_text("(float[1,20] x) => (float[1,20] y) { y = Neg(x) }")
    collect(model, ArraySamples({"x": np.concatenate([x, x[3:]])}, batch_size=1), opened, at_once=2)
    assert not met.broken
