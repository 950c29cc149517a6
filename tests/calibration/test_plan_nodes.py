"""Which nodes a plan runs as integers, and which tensors get a pair."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport.calibration.plan import make_plan, needed_tensors
from edgeport.contracts import OperatorRule, Precision
from edgeport.onnx_files import read_ir


def noise(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


RESIDUAL = "c = Conv3(x, w) r = Relu(c) d = Conv3(r, v) a = Add(d, r) z = Relu(a)"


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A graph over x float [batch, 4, 6, 6] (or `shape`), and the plan's nodes, activations and weights."""

    id: str
    nodes: str
    integer: str
    activations: str
    weights: str
    operators: tuple[str, ...] = ()
    fused: tuple[str, ...] = ("Relu", "Clip")
    shape: tuple[int, ...] = (4, 6, 6)
    constants: dict = field(default_factory=dict)


GOLDEN = [
    Golden(
        id="convolution",
        nodes="z = Conv3(x, w)",
        integer="z:Conv",
        activations="x z",
        weights="w/0",
    ),
    Golden(
        id="a relu is folded, so nothing stands before it",
        nodes="c = Conv3(x, w) z = Relu(c)",
        integer="c:Conv z:Relu",
        activations="x z",
        weights="w/0",
    ),
    Golden(
        id="a relu that is not folded stays float",
        nodes="c = Conv3(x, w) z = Relu(c)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
        fused=(),
    ),
    Golden(
        id="what somebody else reads too can't be folded",
        nodes="c = Conv3(x, w) r = Relu(c) z = Sub(c, r)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
    ),
    Golden(
        id="residual: the add between integer nodes is integer",
        nodes="c = Conv3(x, w) r = Relu(c) d = Conv3(r, v) a = Add(d, r) z = Relu(a)",
        integer="c:Conv r:Relu d:Conv a:Add z:Relu",
        activations="x r d z",
        weights="w/0 v/0",
    ),
    Golden(
        id="an add with a float branch stays float",
        nodes="s = Sin(x) c = Conv3(x, w) z = Add(c, s)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
    ),
    Golden(
        id="a lone pool and a lone multiplication stay float, for all their rules",
        nodes="p = MaxPool<kernel_shape=[1,1]>(x) m = Mul(p, p) s = Sin(m) z = Conv3(s, w)",
        integer="z:Conv",
        activations="s z",
        weights="w/0",
    ),
    Golden(
        id="moves behind an integer node are integer",
        nodes="c = Conv3(x, w) p = MaxPool<kernel_shape=[2,2]>(c) g = GlobalAveragePool(p) f = Flatten(g) "
        "z = Gemm<transB=1>(f, k)",
        integer="c:Conv p:MaxPool g:GlobalAveragePool f:Flatten z:Gemm",
        activations="x c p g f z",
        weights="w/0 k/0",
        constants={"k": noise(5, 4)},
    ),
    Golden(
        id="gemm: the axis follows transB",
        nodes="a = Gemm<transB=1>(x, k) z = Gemm(a, m)",
        integer="a:Gemm z:Gemm",
        activations="x a z",
        weights="k/0 m/1",
        shape=(4,),
        constants={"k": noise(5, 4), "m": noise(5, 3)},
    ),
    Golden(
        id="squeeze and excitation: a second operand that is computed",
        nodes="c = Conv3(x, w) g = GlobalAveragePool(c) d = Conv(g, n) s = Sigmoid(d) z = Mul(c, s)",
        integer="c:Conv g:GlobalAveragePool d:Conv s:Sigmoid z:Mul",
        activations="x c g d s z",
        weights="w/0 n/0",
        constants={"n": noise(4, 4, 1, 1)},
    ),
    Golden(
        id="a constant operand is stored as activations are",
        nodes="a = MatMul(x, k) z = Add(a, b)",
        integer="a:MatMul z:Add",
        activations="x a z",
        weights="k/1 b/None/uint8",
        shape=(3, 4),
        constants={"k": noise(4, 5), "b": noise(5)},
    ),
    Golden(
        id="attention: a product of two activations",
        nodes="q = MatMul(x, k) v = MatMul(x, m) t = Transpose<perm=[0,2,1]>(v) a = MatMul(q, t) "
        "s = Softmax(a) z = MatMul(s, v)",
        integer="q:MatMul v:MatMul t:Transpose a:MatMul z:MatMul",
        activations="x q v t a s z",
        weights="k/1 m/1",
        shape=(3, 4),
        constants={"k": noise(4, 5), "m": noise(4, 5)},
    ),
    Golden(
        id="concatenation of all inputs, split into all outputs",
        nodes="c = Conv3(x, w) d = Conv3(x, v) e = Concat<axis=1>(c, d) f, g = Split<num_outputs=2, axis=1>(e) "
        "z = Sub(f, g)",
        integer="c:Conv d:Conv e:Concat f:Split",
        activations="x c d e f g",
        weights="w/0 v/0",
    ),
    Golden(
        id="a weight that is computed leaves its node float",
        nodes="h = Neg(w) c = Conv3(x, h) z = Conv3(c, v)",
        integer="z:Conv",
        activations="c z",
        weights="v/0",
    ),
    Golden(
        id="a weight that two readers want along different axes gets one scale",
        nodes="a = Gemm(x, k) z = Gemm<transB=1>(a, k)",
        integer="a:Gemm z:Gemm",
        activations="x a z",
        weights="k/None",
        shape=(4,),
        constants={"k": noise(4, 4)},
    ),
    Golden(
        id="x * sigmoid(x) is folded where the runtime does it",
        nodes="c = Conv3(x, w) s = Sigmoid(c) m = Mul(s, c) z = Conv3(m, v)",
        integer="c:Conv s:Sigmoid m:Mul z:Conv",
        activations="x m z",
        weights="w/0 v/0",
        operators=("Conv",),
        fused=("Swish",),
    ),
    Golden(
        id="a gate that others read too is not folded",
        nodes="c = Conv3(x, w) s = Sigmoid(c) m = Mul(s, c) z = Sub(m, s)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
        operators=("Conv",),
        fused=("Swish",),
    ),
    Golden(
        id="x times the sigmoid of something else is not folded",
        nodes="c = Conv3(x, w) s = Sigmoid(x) z = Mul(s, c)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
        operators=("Conv",),
        fused=("Swish",),
    ),
    Golden(
        id="a float gate of one number per channel is quantized",
        nodes="c = Conv3(x, w) g = GlobalAveragePool(x) s = Tanh(g) m = Mul(c, s) z = Conv3(m, v)",
        integer="c:Conv m:Mul z:Conv",
        activations="x c s m z",
        weights="w/0 v/0",
    ),
    Golden(
        id="a float operand of the same size is not",
        nodes="c = Conv3(x, w) s = Tanh(x) m = Mul(c, s) z = Conv3(m, v)",
        integer="c:Conv z:Conv",
        activations="x c m z",
        weights="w/0 v/0",
    ),
    Golden(
        id="an operator of another domain is another operator",
        nodes="c = Conv3(x, w) z = other.Relu(c)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
    ),
    Golden(
        id="an operator that the dialect has not",
        nodes="a = MatMul(x, k) z = Gemm(a, m)",
        integer="z:Gemm",
        activations="a z",
        weights="m/1",
        operators=("Gemm",),
        shape=(4,),
        constants={"k": noise(4, 5), "m": noise(5, 3)},
    ),
]  # fmt: skip


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.id)
def test_golden(golden, graph, dialect, calibration_of, as_text):
    model = graph(golden.nodes, golden.constants, golden.shape)
    rules = dialect(*golden.operators, fused=golden.fused)
    plan = make_plan(model, calibration_of(model), rules)

    assert " ".join(plan.nodes) == golden.integer
    assert sorted(plan.activations) == sorted(golden.activations.split())
    assert sorted(as_text(plan.weights).split()) == sorted(golden.weights.split())
    assert set(plan.nodes.values()) == {Precision.INT8}
    assert set(plan.activations) - set(plan.weights) <= set(needed_tensors(model, [rules]))


def test_a_clip_with_computed_limits_is_not_folded(graph, dialect, calibration_of):
    model = graph("c = Conv3(x, w) low = ReduceMin<keepdims=0>(x) z = Clip(c, low)")
    assert set(make_plan(model, calibration_of(model), dialect()).activations) == {"x", "c"}


@pytest.mark.parametrize(("statistics", "why"), [((np.nan, 1.0), "NaN"), ((-np.inf, 1.0), "Inf")], ids=["NaN", "Inf"])
def test_a_tensor_that_was_not_always_finite_stays_float(graph, dialect, statistics, why, calibration_of):
    model = graph("c = Conv3(x, w) s = Sin(c) z = Conv3(s, v)")
    plan = make_plan(model, calibration_of(model, s=statistics), dialect())
    assert list(plan.nodes) == ["c:Conv"], why


def test_a_tensor_without_statistics_stays_float(graph, dialect, calibration_of):
    model = graph("c = Conv3(x, w) s = Sin(c) z = Conv3(s, v)")
    calibration = calibration_of(model)
    statistics = {name: state for name, state in calibration.statistics.items() if name != "z"}
    plan = make_plan(model, replace(calibration, statistics=statistics), dialect())
    assert list(plan.nodes) == ["c:Conv"]


@pytest.mark.parametrize(("mode", "integer"), [("nearest", True), ("linear", False)])
def test_an_attribute_decides_whether_there_is_a_kernel(graph, dialect, calibration_of, mode, integer):
    resize = OperatorRule(same_scale=True, only={"mode": ("nearest",)})
    rules = dialect()
    rules = replace(rules, operators={**rules.operators, "Resize": resize})
    model = graph(f'c = Conv3(x, w) z = Resize<mode="{mode}">(c, , s)', {"s": np.array([1, 1, 2, 2], np.float32)})
    plan = make_plan(model, calibration_of(model), rules)
    assert ("z:Resize" in plan.nodes) == integer


MASKED = "a = MatMul(x, k) b = MatMul(x, m) t = Transpose<perm=[0,2,1]>(b) q = MatMul(a, t) z = Add(q, mask)"


@pytest.mark.parametrize(
    ("lowest", "integer"), [(-2.0, True), (-1e4, False), (-3.4e38, False), (-np.inf, False)], ids=str
)
def test_a_mask_does_not_drown_what_it_is_added_to(graph, dialect, calibration_of, lowest, integer):
    """With a mask of -10000 all scores would fall into one step of 40."""
    constants = {"k": noise(4, 5), "m": noise(4, 5), "mask": np.float32([[0, lowest, 0], [0, 0, lowest], [0, 0, 0]])}
    model = graph(MASKED, constants, (3, 4))
    bottom = lowest if np.isfinite(lowest) else -4.0
    plan = make_plan(model, calibration_of(model, q=(-3, 3), z=(bottom, 3)), dialect())
    assert ("z:Add" in plan.nodes) == integer
    assert "q:MatMul" in plan.nodes


@pytest.mark.parametrize(("last", "integer"), [("Div", "q v"), ("Mul", "q v a p")], ids=["divided by", "multiplied by"])
def test_products_that_something_is_divided_by_stay_float(graph, dialect, calibration_of, last, integer):
    """Linear attention: the sums of weights that divide are a column of the product that they divide."""
    text = f"""
        q = MatMul(x, k) v = MatMul(x, u) t = Transpose<perm=[0,2,1]>(q) a = MatMul(t, v) p = MatMul(q, a)
        d = ReduceSum(p) e = Add(d, small) z = {last}(p, e)
    """
    constants = {"k": noise(4, 4), "u": noise(4, 4), "small": np.float32([1e-6])}
    model = graph(text, constants, (3, 4))
    plan = make_plan(model, calibration_of(model), dialect())
    assert {name for name in plan.nodes if "MatMul" in name} == {f"{name}:MatMul" for name in integer.split()}


def test_a_bias_may_be_small(graph, dialect, calibration_of):
    model = graph("a = MatMul(x, k) z = Add(a, b)", {"k": noise(4, 5), "b": noise(5) * 1e-4}, (3, 4))
    assert "z:Add" in make_plan(model, calibration_of(model), dialect(fused=())).nodes


@pytest.mark.parametrize(
    ("exclude", "integer", "activations"),
    [
        ({"d:Conv": "it hurts"}, "c:Conv r:Relu", "x r"),
        ({"Relu": "it hurts"}, "c:Conv d:Conv", "x c r d"),
        ({"r:Relu": "it hurts"}, "c:Conv d:Conv", "x c r d"),
        ({"a:Add": "it hurts"}, "c:Conv r:Relu d:Conv", "x r d"),
    ],
    ids=["a node", "an operator type", "a folded activation", "an add"],
)
def test_what_is_excluded_stays_float(graph, dialect, exclude, integer, activations, calibration_of):
    model = graph(RESIDUAL)
    plan = make_plan(model, calibration_of(model), dialect(), exclude=exclude)
    assert (" ".join(plan.nodes), set(plan.activations)) == (integer, set(activations.split()))
    assert plan.found_by == f"minmax, 2 samples, without {next(iter(exclude))} (it hurts)"


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plans_of_random_networks_are_closed(data, graph, dialect, calibration_of, assert_fits):
    """Whatever the graph: an integer node has ranges for all it reads, a range has an integer node beside it."""
    names, nodes = ["x"], []
    for index in range(data.draw(st.integers(1, 8))):
        out = f"t{index}"
        kind = data.draw(st.sampled_from(["conv", "Relu", "Add", "Mul", "Sin", "pool", "Sigmoid"]))
        first, second = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        nodes.append(
            {
                "conv": f"{out} = Conv3({first}, w)",
                "pool": f"{out} = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>({first})",
            }.get(kind, f"{out} = {kind}({first}, {second})" if kind in ("Add", "Mul") else f"{out} = {kind}({first})")
        )
        names.append(out)
    model = graph(" ".join(nodes) + f" z = Conv3({names[-1]}, v)")
    rules = dialect()
    plan = make_plan(model, calibration_of(model), rules)
    assert_fits(plan, model)

    touched = set()
    graph_nodes = {node.name: node for node in read_ir(model).graph}
    for name in plan.nodes:
        node = graph_nodes[name]
        folded = node.op_type in ("Relu", "Clip")
        reads = {value.name for value in node.inputs} - set(plan.weights)
        writes = {value.name for value in node.outputs}
        if folded:
            assert node.inputs[0].producer().name in plan.nodes
        else:
            assert reads <= set(plan.activations)
        touched |= reads | writes
    assert set(plan.activations) <= touched


@pytest.mark.parametrize(("reader", "integer"), [("Softmax", True), ("Sin", False)])
def test_a_sum_stays_float_before_what_needs_floats(graph, dialect, calibration_of, reader, integer):
    model = graph(f"c = Conv3(x, w) a = Add(c, x) s = {reader}(a) z = Conv3(a, v)")
    rules = dialect()
    rules = replace(rules, operators={**rules.operators, "Add": OperatorRule(inputs=(-1,), float_before=("Sin",))})
    assert ("a:Add" in make_plan(model, calibration_of(model), rules).nodes) == integer
