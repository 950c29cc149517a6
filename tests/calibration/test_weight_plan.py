"""Plans whose weights alone are integers: which, in which form, and what is refused by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import Precision
from edgeport.errors import AlreadyQuantizedError, PlanError


def noise(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture
def rules(dialect):
    return dataclasses.replace(
        dialect(), weight_operators={"MatMul": 1, "Gemm": 1, "Gather": 0}, block_operators=("MatMul", "Gemm", "Gather")
    )


PRODUCTS = "a = MatMul(x, k) t = Transpose<perm=[1,0]>(a) b = MatMul(a, t) c = Gemm<transA=1>(b, m) d = Gemm<transB=1>(c, h) z = Neg(d)"  # noqa: E501
WEIGHTS = {"k": noise(40, 5), "m": noise(5, 64), "h": noise(3, 64)}


def forms(plan):
    return {name: (spec.dtype, spec.axis, spec.block_size, spec.symmetric) for name, spec in plan.weights.items()}


def test_products_with_a_constant_are_in_it_and_no_samples_are_needed(graph, rules, assert_fits):
    model = graph(PRODUCTS, WEIGHTS, (40,))
    plan = weight_plan(model, rules, Precision.INT8_WEIGHTS)
    assert dict(plan.nodes) == dict.fromkeys(("a:MatMul", "d:Gemm"), Precision.INT8_WEIGHTS)
    assert forms(plan) == {"k": ("int8", 1, None, True), "h": ("int8", 0, None, True)}  # output channels
    assert (plan.activations, plan.found_by) == ({}, "weights rounded to the nearest, no samples")
    assert_fits(plan, model)


def test_blocks_lie_along_what_is_summed(graph, rules):
    model = graph(PRODUCTS, WEIGHTS, (40,))
    found = forms(weight_plan(model, rules, Precision.UINT4_WEIGHTS_64))
    assert found == {"k": ("uint4", 0, 64, False), "h": ("uint4", 1, 64, False)}


def test_where_blocks_must_be_whole_a_weight_of_another_size_gets_eight_bits(graph, rules):
    model = graph(PRODUCTS, WEIGHTS, (40,))
    plan = weight_plan(model, dataclasses.replace(rules, whole_blocks=True), Precision.INT4_WEIGHTS_32)
    assert dict(plan.nodes) == {"a:MatMul": Precision.INT8_WEIGHTS, "d:Gemm": Precision.INT4_WEIGHTS_32}
    assert forms(plan) == {"k": ("int8", 1, None, True), "h": ("int4", 1, 32, True)}
    assert plan.precision is Precision.INT4_WEIGHTS_32


def test_a_plan_in_blocks_without_any_is_refused(graph, rules):
    model = graph(PRODUCTS, WEIGHTS, (40,))
    with pytest.raises(PlanError, match=r"whose summed axis is a multiple of 128.*int8-weights"):
        weight_plan(model, dataclasses.replace(rules, whole_blocks=True), Precision.INT4_WEIGHTS_128)


def tied(graph, head):
    return graph(
        "one = Constant<value=int64[1] {1}>() zero = Constant<value=int64[1] {0}>() i = Cast<to=7>(x) e = Gather(t, i) "
        f"s = ReduceMean<keepdims=0>(e, one) {head} z = Neg(o)",
        {"t": noise(64, 64)},
        (3,),
    )


def test_a_table_and_the_product_that_shares_it_have_one_scheme(graph, rules):
    model = tied(graph, "o = Gemm<transB=1>(s, t)")
    plan = weight_plan(model, rules, Precision.INT4_WEIGHTS_32)
    assert forms(plan) == {"t": ("int4", 1, 32, True)}
    assert list(plan.nodes) == ["e:Gather", "o:Gemm"]
    assert forms(weight_plan(model, rules, Precision.INT8_WEIGHTS)) == {"t": ("int8", 0, None, True)}


def test_a_weight_that_two_readers_want_along_different_axes_stays_float(graph, rules):
    model = tied(graph, "o = Gemm(s, t)")
    with pytest.raises(PlanError, match="each along the same axis"):
        weight_plan(model, rules, Precision.INT4_WEIGHTS_32)
    plan = weight_plan(model, rules, Precision.INT4_WEIGHTS_32, exclude={"Gather": "it is small"})
    assert forms(plan) == {"t": ("int4", 0, 32, True)}
    assert plan.found_by.endswith(", without Gather (it is small)")
    assert list(weight_plan(model, rules, Precision.INT4_WEIGHTS_32, only=["e:Gather"]).nodes) == ["e:Gather"]


@pytest.mark.parametrize(
    ("nodes", "constants", "shape"),
    [
        pytest.param("z = MatMul(x, k)", {"k": noise(2, 4, 4)}, (4, 4), id="three axes"),
        pytest.param("z = MatMul(x, k)", {"k": noise(4)}, (4,), id="one axis"),
        pytest.param("z = MatMul(k, x)", {"k": noise(4, 4)}, (4, 4), id="the first factor"),
        pytest.param("i = Cast<to=7>(x) z = Gather<axis=1>(k, i)", {"k": noise(4, 4)}, (4,), id="another axis"),
        pytest.param("z = Neg(x)", {}, (4,), id="no product"),
    ],
)
def test_what_has_no_such_weight_is_refused(nodes, constants, shape, graph, rules):
    with pytest.raises(PlanError, match="no constant weight of two axes that MatMul or Gemm or Gather reads"):
        weight_plan(graph(nodes, constants, shape), rules, Precision.INT8_WEIGHTS)


def test_a_weight_that_the_caller_can_override_is_refused_by_name(model_text, rules):
    model = model_text("(float[n,4] x, float[4,4] k) => (float[n,4] z) { z = MatMul(x, k) }", {"k": noise(4, 4)})
    with pytest.raises(PlanError, match=r"weight 'k' of node 'z:MatMul', which the caller of the model can override"):
        weight_plan(model, rules, Precision.INT4_WEIGHTS_32)


def test_other_precisions_and_quantized_models_are_refused(graph, rules):
    with pytest.raises(PlanError, match="take one of int8-weights, int4-weights-32"):
        weight_plan(graph(PRODUCTS, WEIGHTS, (40,)), rules, Precision.INT8)
    model = graph("q, s, p = DynamicQuantizeLinear(x) z = DequantizeLinear(q, s, p)")
    with pytest.raises(AlreadyQuantizedError):
        weight_plan(model, rules, Precision.INT8_WEIGHTS)
