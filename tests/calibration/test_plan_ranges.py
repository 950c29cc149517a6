"""Which range each tensor of a plan has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport.backends.qdq.quant_params import activation_parameters, weight_parameters
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.error_sensitivity import bias_weight
from edgeport.calibration.plan import make_plan, needed_tensors
from edgeport.calibration.ranges import METHODS, FixedRange, MinMax, Percentile, PowerOfTwo, method_named
from edgeport.contracts import QuantizationPlan, dump_json, load_json
from edgeport.errors import CalibrationError
from edgeport.onnx_files import infer_types, read_ir


def noise(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


RESIDUAL = "c = Conv3(x, w) r = Relu(c) d = Conv3(r, v) a = Add(d, r) z = Relu(a)"


def test_equal_inputs_give_equal_bytes(graph, dialect, calibration_of):
    model = graph(RESIDUAL)
    plans = {dump_json(make_plan(model, calibration_of(model), dialect(), Percentile(99.9))) for _ in range(3)}
    assert len(plans) == 1
    assert load_json(QuantizationPlan, plans.pop()) == make_plan(
        model, calibration_of(model), dialect(), Percentile(99.9)
    )


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_what_a_relu_gives_starts_at_zero(graph, dialect, symmetric, calibration_of):
    model = graph("c = Conv3(x, w) z = Relu(c)")
    plan = make_plan(model, calibration_of(model, z=(0.25, 6.0)), dialect(symmetric=symmetric))
    assert plan.activations["z"].minimum == (0.25 if symmetric else 0.0)
    assert (plan.activations["z"].dtype, plan.activations["z"].symmetric) == (
        ("int8", True) if symmetric else ("uint8", False)
    )


@pytest.mark.parametrize(("low", "minimum"), [(0.0, 0.0), (-1.0, 0.25)], ids=["from 0", "from -1"])
def test_a_clip_starts_at_zero_where_its_limit_says_so(graph, dialect, low, minimum, calibration_of):
    limits = {"low": np.float32(low), "high": np.float32(6)}
    model = graph("c = Conv3(x, w) z = Clip(c, low, high)", limits)
    plan = make_plan(model, calibration_of(model, z=(0.25, 6.0)), dialect())
    assert plan.activations["z"].minimum == minimum
    assert set(plan.activations) == {"x", "z"}


def test_moves_share_the_union_of_their_ranges(graph, dialect, calibration_of):
    model = graph("c = Conv3(x, w) d = Conv3(x, v) p = MaxPool<kernel_shape=[2,2]>(c) t = Transpose(p) z = Neg(t)")
    plan = make_plan(model, calibration_of(model, c=(-1, 2), p=(-0.5, 2), t=(-0.5, 2.5), d=(-9, 9)), dialect())
    assert {(plan.activations[name].minimum, plan.activations[name].maximum) for name in "cpt"} == {(-1.0, 2.5)}
    assert plan.activations["d"].minimum == -9


def test_the_method_decides_the_range(graph, dialect, calibration_of):
    model = graph("z = Conv3(x, w)")
    values = np.append(np.linspace(-1, 1, 100_000), 1000.0)
    calibration = calibration_of(model, x=values)
    assert make_plan(model, calibration, dialect(), MinMax()).activations["x"].maximum == 1000.0
    percentile = make_plan(model, calibration, dialect(), Percentile(99.9))
    assert percentile.activations["x"].maximum == 1.0  # bins are 1 wide here, and edges are on whole numbers
    assert percentile.found_by == "percentile 99.9, 2 samples"


def test_one_scale_per_weight_where_the_dialect_wants_no_more(graph, dialect, calibration_of):
    model = graph("z = Conv3(x, w)")
    assert make_plan(model, calibration_of(model), dialect(per_channel=False)).weights["w"].axis is None


def test_data_free_calibration_is_said_in_the_plan(graph, dialect, calibration_of):
    model = graph(RESIDUAL)
    assert make_plan(model, replace(calibration_of(model), data_free=True), dialect()).data_free


def test_the_needed_tensors_give_the_same_plan(graph, dialect, open_model):
    model = graph(RESIDUAL)
    samples = ArraySamples({"x": noise(40, 4, 6, 6)})
    needed = needed_tensors(model, [dialect()])
    assert needed == ["x", "r", "d", "z"]
    part, whole = (collect(model, samples, open_model, tensors=tensors) for tensors in (needed, None))
    assert dump_json(make_plan(model, part, dialect())) == dump_json(make_plan(model, whole, dialect()))


def test_every_method_makes_a_plan_and_says_which_it_was(graph, dialect, calibration_of):
    model = graph(RESIDUAL)
    calibration = replace(calibration_of(model), data_free=True)
    said = {}
    for row in METHODS.values():
        if row.form == "measured":
            with pytest.raises(CalibrationError, match="not measured yet"):
                make_plan(model, calibration, dialect(), method_named(row.form))
            continue
        plan = make_plan(model, calibration, dialect(), method_named(row.form))
        assert set(plan.activations) == {"x", "r", "d", "z"}
        said[row.form] = plan.found_by
    assert said["mse"] == "mse, 2 synthetic samples"
    assert said["global"] == "global -6 6, 2 synthetic samples"
    assert said["global:-6:6"] == "global -6 6, 2 synthetic samples"
    assert said["auto"].startswith("auto (4 ")


def test_one_range_for_all_is_that_even_behind_a_relu(graph, dialect, calibration_of):
    model = graph(RESIDUAL)
    plan = make_plan(model, calibration_of(model), dialect(), FixedRange(-6.0, 5.0))
    assert {(one.minimum, one.maximum) for one in plan.activations.values()} == {(-6.0, 5.0)}


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_power_of_two_steps_everywhere(graph, dialect, calibration_of, symmetric):
    model = graph(RESIDUAL)
    rules = dialect(symmetric=symmetric)
    plan = make_plan(model, calibration_of(model), rules, PowerOfTwo())
    scales = [float(activation_parameters(one).scale) for one in plan.activations.values()]
    weights = [weight_parameters(noise(4, 4, 3, 3), one).scale for one in plan.weights.values()]
    assert all(np.frexp(scale)[0] == 0.5 for scale in scales)
    assert all((np.frexp(each)[0] == 0.5).all() for each in weights)


def test_moves_keep_a_power_of_two_for_the_union(graph, dialect, calibration_of):
    model = graph("c = Conv3(x, w) z = MaxPool<kernel_shape=[2,2]>(c)")
    plan = make_plan(model, calibration_of(model, c=(-1, 2), z=(-0.5, 9)), dialect(), PowerOfTwo())
    assert plan.activations["c"] == plan.activations["z"]
    assert np.frexp(float(activation_parameters(plan.activations["c"]).scale))[0] == 0.5
    assert plan.activations["c"].maximum >= 9


def test_a_method_whose_observer_did_not_watch_is_refused(graph, dialect, calibration_of):
    model = graph(RESIDUAL)
    seen = calibration_of(model)
    bare = {name: {"extremes": each["extremes"]} for name, each in seen.statistics.items()}
    with pytest.raises(CalibrationError, match="calibrate again with 'histogram'"):
        make_plan(model, replace(seen, statistics=bare), dialect(), method_named("mse"))


def test_a_reader_that_averages_asks_for_less_clipping(graph, dialect):
    weights = {"ones": np.ones((4, 4, 3, 3), np.float32)}
    model = graph("c = Conv3(x, ones) z = GlobalAveragePool(c)", weights)
    opened = read_ir(model)
    infer_types(opened)
    values = {value.name: value for node in opened.graph for value in node.outputs}
    assert bias_weight(opened.graph.inputs[0], dialect()) == pytest.approx(
        36.0
    )  # all weights equal: as many as there are
    assert bias_weight(values["c"], dialect()) == pytest.approx(36.0)  # 6 x 6 pixels in one mean
    assert bias_weight(values["z"], dialect()) == 1.0  # nobody reads it
