"""The range method whose integers come nearest the float model, as measured: none is the best for every model."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.mixed_precision.sensitivity import noises
from edgeport.calibration.plan import make_plan
from edgeport.calibration.range_method_search import _rows, measure_methods
from edgeport.calibration.ranges import Auto, Entropy, Measured, MinMax, Percentile, form_of, method_named
from edgeport.errors import BackendError, CalibrationError
from edgeport.onnx_files import read_ir, read_once, write_scratch

RULES = x86_rules(vnni=True)
COUNT, WIDTH = 64, 64


def write(model, plan, folder):
    return write_plan(model, plan, RULES, folder / "written.onnx").path


@pytest.fixture
def measured(model_text, open_model, random):
    """`measured(x, weight, methods)`: of one product, over calls of one row each."""

    def run(x, weight, methods):
        text = f"(float[n,{WIDTH}] x) => (float[n,{WIDTH}] z) {{ z = MatMul(x, w) }}"
        model = model_text(text, {"w": weight})
        calibration = collect(model, ArraySamples({"x": x}), open_model)
        calls = [{"x": x[index : index + 1]} for index in range(0, COUNT, 4)]
        found = measure_methods(model, calibration, RULES, calls, open_model, write, methods=methods)
        return model, calibration, calls, found

    return run


def test_a_range_that_one_outlier_made_is_left(measured, random):
    x, weight = random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1)
    x[1, 0] = 200.0  # not in the calls, as most outliers
    found = measured(x, weight, (MinMax(), Percentile(99.9)))[-1]
    assert found.chosen == Percentile(99.9)
    assert found.noise["percentile:99.9"] < found.noise["minmax"] / 10


def test_its_plan_is_the_one_that_the_method_makes(measured, random):
    x, weight = random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1)
    x[1, 0] = 200.0
    for methods in ((MinMax(), Percentile(99.9)), (Percentile(99.9), MinMax())):
        model, calibration, _, found = measured(x, weight, methods)
        assert found.plan == make_plan(model, calibration, RULES, Percentile(99.9))


def test_large_values_that_decide_are_not_cut(measured, random):
    x, weight = random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1)
    x[:, 0] = 12.0 + np.abs(x[:, 0])
    found = measured(x, weight, (MinMax(), Percentile(98.0)))[-1]
    assert found.chosen == MinMax()


def test_where_there_is_little_between_them_the_first_stays(measured, random):
    x, weight = random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1)
    found = measured(x, weight, (MinMax(), Percentile(100.0), Percentile(99.99)))[-1]
    assert found.noise["percentile:100"] == found.noise["minmax"], "the same plan is run once"
    assert found.chosen == MinMax()


def test_the_noise_is_that_of_the_written_plan(measured, random, open_model, tmp_path):
    model, calibration, calls, found = measured(random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1), (Entropy(),))
    written = write(model, make_plan(model, calibration, RULES, Entropy()), tmp_path)
    with open_model(model.path) as true, open_model(written) as other:
        signal = [true(feeds)["z"].astype(np.float64) for feeds in calls]
        noise = [other(feeds)["z"] - one for feeds, one in zip(calls, signal, strict=True)]
    assert found.noise["entropy"] == pytest.approx(np.square(noise).sum() / np.square(signal).sum(), rel=1e-6)


def test_better_is_what_is_better_for_typical_samples_and_in_all(measured, random):
    x, weight = random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1)
    x[0] *= 60.0  # one of the calls: all others gain by a cut, the sum of all does not
    found = measured(x, weight, (MinMax(), Percentile(99.0)))[-1]
    assert found.noise["percentile:99"] > found.noise["minmax"]
    assert found.chosen == MinMax()


def test_noise_in_all_and_of_a_typical_call():
    signal = [{"z": np.full(4, value, np.float32)} for value in (1.0, 100.0)]
    off = [{"z": one["z"] + np.float32(0.5)} for one in signal]
    total, typical = noises(signal, off)
    assert total == pytest.approx(2 * 0.25 / (1 + 1e4))
    assert typical == pytest.approx(0.25 * (0.25 * 1e-4) ** 0.5 / 0.5)
    silent = {"z": np.zeros(4, np.float32)}
    assert noises([silent, signal[0]], [signal[0], signal[0]])[1] == pytest.approx((1e6 * 1e-15) ** 0.5)


def test_a_plan_that_can_not_be_run_is_not_chosen(measured, random, open_model, model_text):
    from contextlib import contextmanager

    x = random(COUNT, WIDTH)
    model, calibration, calls, _ = measured(x, random(WIDTH, WIDTH, seed=1), (MinMax(),))
    opened = []

    @contextmanager
    def fails_once(path):
        opened.append(path)
        if len(opened) == 2:
            raise BackendError(asked="open", found="nothing", fix="none")
        with open_model(path) as run:
            yield run

    methods = (MinMax(), Percentile(99.9))
    found = measure_methods(model, calibration, RULES, calls, fails_once, write, methods=methods)
    assert found.chosen == Percentile(99.9)
    assert found.noise["minmax"] == float("inf")


def test_each_model_is_let_go_before_the_next_is_opened(measured, random, open_model):
    """Beside a plan's file the float model would lie in memory a second time."""
    from contextlib import contextmanager

    model, calibration, calls, _ = measured(random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1), (MinMax(),))
    opened = []

    @contextmanager
    def alone(path):
        gc.collect()
        assert [one for one in opened if one() is not None] == []
        with open_model(path) as run:

            def looked_at(feeds):
                return run(feeds)

            opened.append(weakref.ref(looked_at))
            yield looked_at
            del looked_at

    measure_methods(model, calibration, RULES, calls, alone, write, methods=(MinMax(), Percentile(99.9), Entropy()))
    assert len(opened) == 4


def test_what_was_not_watched_is_not_measured(measured, random, open_model):
    from edgeport.calibration.observers import OBSERVERS

    model, _, calls, _ = measured(random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1), (MinMax(),))
    samples = ArraySamples({"x": random(COUNT, WIDTH)})
    extremes = collect(model, samples, open_model, observers={"extremes": OBSERVERS["extremes"]})
    found = measure_methods(model, extremes, RULES, calls, open_model, write)
    assert list(found.noise) == ["minmax"]


def test_a_plan_is_not_made_by_a_method_that_is_not_measured_yet(measured, random):
    model, calibration, *_ = measured(random(COUNT, WIDTH), random(WIDTH, WIDTH, seed=1), (MinMax(),))
    with pytest.raises(CalibrationError, match="not measured yet"):
        make_plan(model, calibration, RULES, Measured())


@pytest.mark.parametrize("text", ["minmax", "percentile:99.99", "global:-6:6.5", "auto", "measured"])
def test_a_method_is_called_as_it_is_read(text):
    assert form_of(method_named(text)) == text
    assert form_of(Auto()) == "auto"


@pytest.mark.parametrize(("first", "rows"), [("Abs(x)", 8), ("Sub(x, m)", 1)], ids=["each alone", "mixed"])
def test_samples_are_run_together_where_that_changes_nothing(first, rows, model_text, open_model, random):
    from contextlib import contextmanager

    text = f"""(float[n,{WIDTH}] x) => (float[n,{WIDTH}] z)
        {{ m = ReduceMean <keepdims = 1> (x, axes)  c = {first}  y = Add(c, x)  z = MatMul(y, w) }}"""
    model = model_text(text, {"w": random(WIDTH, WIDTH, seed=1), "axes": np.array([0])})
    x = random(COUNT, WIDTH)
    calibration = collect(model, ArraySamples({"x": x}, batch_size=1), open_model)
    counts = []

    @contextmanager
    def watched(path):
        with open_model(path) as run:
            yield lambda feeds: counts.append((path == model.path, len(feeds["x"]))) or run(feeds)

    calls = [{"x": x[index : index + 1]} for index in range(16)]
    measure_methods(model, calibration, RULES, calls, watched, write, methods=(MinMax(),))
    assert {count for is_float, count in counts if not is_float} == {rows}


def test_outputs_that_do_not_count_samples_are_compared_as_they_are(model_text, open_model, random):
    text = f"""(float[n,{WIDTH}] x) => (float[n,{WIDTH}] z, int64[k,2] found)
        {{ z = MatMul(x, w)  first = Gather <axis = 1> (x, zero)  is = Greater(first, half)
           places = NonZero(is)  found = Transpose(places) }}"""
    weights = {"w": random(WIDTH, WIDTH, seed=1), "zero": np.array([0]), "half": np.float32([0.5])}
    model = model_text(text, weights)
    x = random(COUNT, WIDTH)
    x[:, 0] = 1.0
    x[8:16:2, 0] = 0.0  # as many as samples are found in the first eight calls, and fewer in the next
    calibration = collect(model, ArraySamples({"x": x}, batch_size=1), open_model)
    calls = [{"x": x[index : index + 1]} for index in range(16)]
    found = measure_methods(model, calibration, RULES, calls, open_model, write, methods=(MinMax(),))
    assert 0 < found.noise["minmax"] < 0.1


def test_an_output_that_has_no_row_for_each_call_is_whole_in_all():
    found = _rows({"z": np.arange(8).reshape(4, 2), "found": np.arange(3), "mean": np.array(0.5)}, 4)
    assert [{name: array.tolist() for name, array in row.items()} for row in found] == [
        {"z": [[2 * index, 2 * index + 1]], "found": [0, 1, 2], "mean": 0.5} for index in range(4)
    ]


def test_what_is_written_beside_mapped_weights_does_not_stay_there(model_text, open_model, random, tmp_path):
    folder, written = tmp_path / "weights", []
    folder.mkdir()

    def scratch(model, plan, into):
        written.append(write_scratch(read_ir(model), into, "tried.onnx"))
        return written[-1]

    text = f"(float[n,{WIDTH}] x) => (float[n,{WIDTH}] z) {{ z = MatMul(x, w) }}"
    x = random(COUNT, WIDTH)
    with read_once(model_text(text, {"w": random(WIDTH, WIDTH, seed=1)}), folder) as model:
        calibration = collect(model, ArraySamples({"x": x}), open_model)
        assert [file.name for file in folder.iterdir()] == ["weights.data"]
        calls, methods = [{"x": x[:1]}], (MinMax(), Percentile(90.0))
        measure_methods(model, calibration, RULES, calls, open_model, scratch, methods=methods)
        assert [file.name for file in folder.iterdir()] == ["weights.data"]
    assert [file.parent for file in written] == [folder, folder]
