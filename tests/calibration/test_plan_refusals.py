"""What is not planned, and plans that do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan
from edgeport.contracts import Precision
from edgeport.errors import AlreadyQuantizedError, CalibrationError, PlanError

RESIDUAL = "c = Conv3(x, w) r = Relu(c) d = Conv3(r, v) a = Add(d, r) z = Relu(a)"


def test_an_exclusion_that_names_nothing_is_refused(graph, dialect, calibration_of):
    model = graph(RESIDUAL)
    with pytest.raises(PlanError, match="did you mean 'd:Conv'"):
        make_plan(model, calibration_of(model), dialect(), exclude={"d:Con": "typo"})


def test_statistics_of_another_model_are_refused(graph, dialect, calibration_of):
    model, other = graph(RESIDUAL), graph("z = Conv3(x, w)")
    with pytest.raises(CalibrationError, match="statistics of a model with digest"):
        make_plan(model, calibration_of(other), dialect())


QUANTIZED = (
    "(float[batch,3] x, float s, uint8 z) => (float[batch,3] y) "
    "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
)


def test_a_quantized_model_is_refused(model_text, dialect, calibration_of):
    model = model_text(QUANTIZED)
    with pytest.raises(AlreadyQuantizedError, match="QuantizeLinear"):
        make_plan(model, calibration_of(model), dialect())
    with pytest.raises(AlreadyQuantizedError, match="QuantizeLinear"):
        dynamic_plan(model, dialect())


def test_a_model_with_nothing_to_quantize_is_refused(graph, dialect, calibration_of):
    model = graph("s = Sin(x) z = Cos(s)")
    with pytest.raises(PlanError, match=r"integers begin at Conv, Gemm.*, and the model has Cos, Sin; run"):
        make_plan(model, calibration_of(model), dialect())
    with pytest.raises(PlanError, match="integers begin at MatMul, Gemm, and the model has Cos, Sin"):
        dynamic_plan(model, dialect())


@pytest.mark.parametrize(
    ("text", "excluded", "message"),
    [
        ("z = Mul(x, x)", {}, "and the model has Mul; Mul would be integers only behind one of these"),
        ("z = Conv3(x, w)", {"Conv": "tried"}, "Conv '.*' is kept in float"),
        ("a = Conv3(x, w) z = Conv3(a, v)", {"Conv": "tried"}, r"\(and 1 more like it\) is kept in float"),
        ("v2 = Mul(w, w) z = Conv3(x, v2)", {}, "Conv '.*' has no constant float32 weight"),
    ],
    ids=["only followers", "excluded", "two excluded", "computed weight"],
)
def test_why_nothing_can_be_quantized_is_said(graph, dialect, calibration_of, text, excluded, message):
    model = graph(text)
    with pytest.raises(PlanError, match=message):
        make_plan(model, calibration_of(model), dialect(), exclude=excluded)


def test_a_tensor_without_a_range_is_named(graph, dialect, calibration_of):
    model = graph("z = Conv3(x, w)")
    calibration = calibration_of(model)
    unseen = replace(calibration, statistics={name: one for name, one in calibration.statistics.items() if name != "z"})
    with pytest.raises(PlanError, match=r"Conv '.*' has no range for 'z'"):
        make_plan(model, unseen, dialect())


def test_a_plan_fits_its_model(graph, dialect, calibration_of, assert_fits):
    model = graph(RESIDUAL)
    assert_fits(make_plan(model, calibration_of(model), dialect()), model)
    assert_fits(float_plan(model), model)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: {"model_digest": "0" * 64},
        lambda plan: {"nodes": {"d:Con": Precision.INT8}},
        lambda plan: {"activations": {"q": plan.activations["x"]}},
        lambda plan: {"weights": {"x": plan.weights["w"]}},
        lambda plan: {"weights": {"w": replace(plan.weights["w"], axis=4)}},
    ],
    ids=["digest", "node", "tensor", "weight", "axis"],
)
def test_a_plan_that_does_not_fit_is_seen(graph, dialect, change, calibration_of, assert_fits):
    model = graph(RESIDUAL)
    plan = make_plan(model, calibration_of(model), dialect())
    with pytest.raises(AssertionError):
        assert_fits(replace(plan, **change(plan)), model)
