"""Plans without ranges: dynamic int8 and float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan
from edgeport.contracts import Precision, RecurrentRule
from edgeport.errors import PlanError


def noise(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


RESIDUAL = "c = Conv3(x, w) r = Relu(c) d = Conv3(r, v) a = Add(d, r) z = Relu(a)"


def test_a_dynamic_plan_has_the_products_with_a_constant(graph, dialect, as_text):
    model = graph(
        "a = MatMul(x, k) t = Transpose<perm=[1,0]>(a) b = MatMul(a, t) c = Gemm<transA=1>(b, b) "
        "d = Gemm<transB=1>(a, m) e = Gemm<transA=1>(d, m) z = Neg(e)",
        {"k": noise(4, 5), "m": noise(3, 5)},
        (4,),
    )
    plan = dynamic_plan(model, dialect())
    assert plan.nodes == {"a:MatMul": Precision.INT8_DYNAMIC, "d:Gemm": Precision.INT8_DYNAMIC}
    assert as_text(plan.weights) == "k/1 m/0"
    assert (plan.activations, plan.precision, plan.found_by) == ({}, Precision.INT8_DYNAMIC, "dynamic ranges")


def test_dynamic_nodes_can_be_excluded(graph, dialect):
    model = graph("a = MatMul(x, k) z = MatMul(a, m)", {"k": noise(4, 5), "m": noise(5, 5)}, (4,))
    plan = dynamic_plan(model, dialect(), exclude={"a:MatMul": "it hurts"})
    assert (list(plan.nodes), list(plan.weights)) == (["z:MatMul"], ["m"])


CELL = {"w": noise(1, 20, 4), "r": noise(1, 20, 5), "k": noise(5, 3)}
LAYERS = {
    "bounded": "t = Tanh(x) l = LSTM<hidden_size=5>(t, w, r) s = Squeeze(l, one) z = MatMul(s, k)",
    "unbounded": "l = LSTM<hidden_size=5>(x, w, r) s = Squeeze(l, one) z = MatMul(s, k)",
    "other layout": "t = Tanh(x) l = LSTM<hidden_size=5, layout=1>(t, w, r) s = Squeeze(l, two) z = MatMul(s, k)",
    "computed weight": "t = Tanh(x) v = Neg(w) l = LSTM<hidden_size=5>(t, v, r) s = Squeeze(l, one) z = MatMul(s, k)",
}


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_recurrent_layer_is_dynamic_where_its_input_is_bounded(layer, static, graph, dialect, calibration_of):
    axes = {"one": np.array([1]), "two": np.array([2])}
    model = graph(LAYERS[layer], CELL | axes, (2, 4))
    rules = replace(dialect(), recurrent_operators={"LSTM": RecurrentRule(weights=(1, 2), only={"layout": ("0",)})})
    plan = make_plan(model, calibration_of(model), rules) if static else dynamic_plan(model, rules)
    planned = plan.nodes.get("l:LSTM")
    assert planned is (Precision.INT8_DYNAMIC if layer == "bounded" else None)
    assert plan.nodes["z:MatMul"] is (Precision.INT8 if static else Precision.INT8_DYNAMIC)
    assert {name: plan.weights[name].axis for name in ("w", "r") if name in plan.weights} == (
        {"w": 1, "r": 1} if planned else {}
    )
    assert ("LSTM with int8 weights" in plan.found_by) == bool(static and planned)


def test_a_float_plan_names_nothing(graph):
    model = graph(RESIDUAL)
    plan = float_plan(model, Precision.BF16)
    assert (plan.precision, plan.nodes, plan.model_digest) == (Precision.BF16, {}, model.digest)
    with pytest.raises(PlanError, match="default that needs ranges"):
        float_plan(model, Precision.INT8)
