"""Plans without ranges: dynamic int8 and float."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.calibration.plan import dynamic_plan, float_plan
from edgeport.contracts import Precision
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


def test_a_float_plan_names_nothing(graph):
    model = graph(RESIDUAL)
    plan = float_plan(model, Precision.BF16)
    assert (plan.precision, plan.nodes, plan.model_digest) == (Precision.BF16, {}, model.digest)
    with pytest.raises(PlanError, match="default that needs ranges"):
        float_plan(model, Precision.INT8)
