"""Plans: which nodes are integer, which tensors get a pair, with which range."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport.calibration.check_plan import check_plan
from edgeport.calibration.collect import collect, watchable
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.observers import OBSERVERS
from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan, needed_tensors
from edgeport.calibration.ranges import MinMax, Percentile
from edgeport.contracts import Calibration, Precision, QuantizationPlan, dump_json, load_json
from edgeport.errors import AlreadyQuantizedError, CalibrationError, PlanError
from edgeport.onnx_files import read_ir


def noise(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


CONV = "Conv<pads=[1,1,1,1]>"
W = {"w": noise(4, 4, 3, 3), "v": noise(4, 4, 3, 3), "u": noise(4, 4, 3, 3)}


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
    constants: dict = field(default_factory=lambda: W)


GOLDEN = [
    Golden(
        id="convolution",
        nodes=f"z = {CONV}(x, w)",
        integer="z:Conv",
        activations="x z",
        weights="w/0",
    ),
    Golden(
        id="a relu is folded, so nothing stands before it",
        nodes=f"c = {CONV}(x, w) z = Relu(c)",
        integer="c:Conv z:Relu",
        activations="x z",
        weights="w/0",
    ),
    Golden(
        id="a relu that is not folded stays float",
        nodes=f"c = {CONV}(x, w) z = Relu(c)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
        fused=(),
    ),
    Golden(
        id="what somebody else reads too can't be folded",
        nodes=f"c = {CONV}(x, w) r = Relu(c) z = Sub(c, r)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
    ),
    Golden(
        id="residual: the add between integer nodes is integer",
        nodes=f"c = {CONV}(x, w) r = Relu(c) d = {CONV}(r, v) a = Add(d, r) z = Relu(a)",
        integer="c:Conv r:Relu d:Conv a:Add z:Relu",
        activations="x r d z",
        weights="w/0 v/0",
    ),
    Golden(
        id="an add with a float branch stays float",
        nodes=f"s = Sin(x) c = {CONV}(x, w) z = Add(c, s)",
        integer="c:Conv",
        activations="x c",
        weights="w/0",
    ),
    Golden(
        id="a lone pool and a lone multiplication stay float, for all their rules",
        nodes=f"p = MaxPool<kernel_shape=[1,1]>(x) m = Mul(p, p) s = Sin(m) z = {CONV}(s, w)",
        integer="z:Conv",
        activations="s z",
        weights="w/0",
    ),
    Golden(
        id="moves behind an integer node are integer",
        nodes=f"c = {CONV}(x, w) p = MaxPool<kernel_shape=[2,2]>(c) g = GlobalAveragePool(p) f = Flatten(g) "
        "z = Gemm<transB=1>(f, k)",
        integer="c:Conv p:MaxPool g:GlobalAveragePool f:Flatten z:Gemm",
        activations="x c p g f z",
        weights="w/0 k/0",
        constants=W | {"k": noise(5, 4)},
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
        nodes=f"c = {CONV}(x, w) g = GlobalAveragePool(c) d = Conv(g, n) s = Sigmoid(d) z = Mul(c, s)",
        integer="c:Conv g:GlobalAveragePool d:Conv s:Sigmoid z:Mul",
        activations="x c g d s z",
        weights="w/0 n/0",
        constants=W | {"n": noise(4, 4, 1, 1)},
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
        nodes=f"c = {CONV}(x, w) d = {CONV}(x, v) e = Concat<axis=1>(c, d) f, g = Split<num_outputs=2, axis=1>(e) "
        "z = Sub(f, g)",
        integer="c:Conv d:Conv e:Concat f:Split",
        activations="x c d e f g",
        weights="w/0 v/0",
    ),
    Golden(
        id="a weight that is computed leaves its node float",
        nodes=f"h = Neg(w) c = {CONV}(x, h) z = {CONV}(c, v)",
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
        id="an operator of another domain is another operator",
        nodes=f"c = {CONV}(x, w) z = other.Relu(c)",
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


@pytest.fixture
def graph(model_text):
    """A model of the given nodes from x float [batch, *shape] to z."""

    def write(nodes, constants=W, shape=(4, 6, 6)):
        sizes = ",".join(map(str, shape))
        free = ",".join(f"n{i}" for i in range(len(shape)))
        used = {name: array for name, array in constants.items() if f"{name})" in nodes or f"{name}," in nodes}
        return model_text(f"(float[batch,{sizes}] x) => (float[batch,{free}] z) {{ {nodes} }}", used)

    return write


def calibration_of(model, **values):
    """Statistics of every tensor, from two values each: -1 - i and 1 + i for the i-th, or what `values` says."""
    statistics = {}
    for index, name in enumerate(watchable(model)):
        observers = {key: observer() for key, observer in OBSERVERS.items()}
        for observer in observers.values():
            observer.update(np.array(values.get(name, (-1.0 - index, 1.0 + index)), np.float32))
        statistics[name] = {key: observer.state() for key, observer in observers.items()}
    return Calibration(model_digest=model.digest, samples_fingerprint="f", sample_count=2, statistics=statistics)


def as_text(weights):
    return " ".join(f"{n}/{w.axis}" + ("" if w.dtype == "int8" else f"/{w.dtype}") for n, w in weights.items())


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.id)
def test_golden(golden, graph, dialect):
    model = graph(golden.nodes, golden.constants, golden.shape)
    rules = dialect(*golden.operators, fused=golden.fused)
    plan = make_plan(model, calibration_of(model), rules)

    assert " ".join(plan.nodes) == golden.integer
    assert sorted(plan.activations) == sorted(golden.activations.split())
    assert sorted(as_text(plan.weights).split()) == sorted(golden.weights.split())
    assert set(plan.nodes.values()) == {Precision.INT8}
    assert set(plan.activations) - set(plan.weights) <= set(needed_tensors(model, [rules]))


RESIDUAL = f"c = {CONV}(x, w) r = Relu(c) d = {CONV}(r, v) a = Add(d, r) z = Relu(a)"


def test_equal_inputs_give_equal_bytes(graph, dialect):
    model = graph(RESIDUAL)
    plans = {dump_json(make_plan(model, calibration_of(model), dialect(), Percentile(99.9))) for _ in range(3)}
    assert len(plans) == 1
    assert load_json(QuantizationPlan, plans.pop()) == make_plan(
        model, calibration_of(model), dialect(), Percentile(99.9)
    )


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_what_a_relu_gives_starts_at_zero(graph, dialect, symmetric):
    model = graph(f"c = {CONV}(x, w) z = Relu(c)")
    plan = make_plan(model, calibration_of(model, z=(0.25, 6.0)), dialect(symmetric=symmetric))
    assert plan.activations["z"].minimum == (0.25 if symmetric else 0.0)
    assert (plan.activations["z"].dtype, plan.activations["z"].symmetric) == (
        ("int8", True) if symmetric else ("uint8", False)
    )


@pytest.mark.parametrize(("low", "minimum"), [(0.0, 0.0), (-1.0, 0.25)], ids=["from 0", "from -1"])
def test_a_clip_starts_at_zero_where_its_limit_says_so(graph, dialect, low, minimum):
    limits = {"low": np.float32(low), "high": np.float32(6)}
    model = graph(f"c = {CONV}(x, w) z = Clip(c, low, high)", W | limits)
    plan = make_plan(model, calibration_of(model, z=(0.25, 6.0)), dialect())
    assert plan.activations["z"].minimum == minimum
    assert set(plan.activations) == {"x", "z"}


def test_a_clip_with_computed_limits_is_not_folded(graph, dialect):
    model = graph(f"c = {CONV}(x, w) low = ReduceMin<keepdims=0>(x) z = Clip(c, low)")
    assert set(make_plan(model, calibration_of(model), dialect()).activations) == {"x", "c"}


def test_moves_share_the_union_of_their_ranges(graph, dialect):
    model = graph(f"c = {CONV}(x, w) d = {CONV}(x, v) p = MaxPool<kernel_shape=[2,2]>(c) t = Transpose(p) z = Neg(t)")
    plan = make_plan(model, calibration_of(model, c=(-1, 2), p=(-0.5, 2), t=(-0.5, 2.5), d=(-9, 9)), dialect())
    assert {(plan.activations[name].minimum, plan.activations[name].maximum) for name in "cpt"} == {(-1.0, 2.5)}
    assert plan.activations["d"].minimum == -9


def test_the_method_decides_the_range(graph, dialect):
    model = graph(f"z = {CONV}(x, w)")
    values = np.append(np.linspace(-1, 1, 100_000), 1000.0)
    calibration = calibration_of(model, x=values)
    assert make_plan(model, calibration, dialect(), MinMax()).activations["x"].maximum == 1000.0
    percentile = make_plan(model, calibration, dialect(), Percentile(99.9))
    assert percentile.activations["x"].maximum == 1.0  # bins are 1 wide here, and edges are on whole numbers
    assert percentile.found_by == "percentile 99.9, 2 samples"


def test_one_scale_per_weight_where_the_dialect_wants_no_more(graph, dialect):
    model = graph(f"z = {CONV}(x, w)")
    assert make_plan(model, calibration_of(model), dialect(per_channel=False)).weights["w"].axis is None


@pytest.mark.parametrize(("statistics", "why"), [((np.nan, 1.0), "NaN"), ((-np.inf, 1.0), "Inf")], ids=["NaN", "Inf"])
def test_a_tensor_that_was_not_always_finite_stays_float(graph, dialect, statistics, why):
    model = graph(f"c = {CONV}(x, w) s = Sin(c) z = {CONV}(s, v)")
    plan = make_plan(model, calibration_of(model, s=statistics), dialect())
    assert list(plan.nodes) == ["c:Conv"], why


def test_a_tensor_without_statistics_stays_float(graph, dialect):
    model = graph(f"c = {CONV}(x, w) s = Sin(c) z = {CONV}(s, v)")
    calibration = calibration_of(model)
    statistics = {name: state for name, state in calibration.statistics.items() if name != "z"}
    plan = make_plan(model, replace(calibration, statistics=statistics), dialect())
    assert list(plan.nodes) == ["c:Conv"]


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
def test_what_is_excluded_stays_float(graph, dialect, exclude, integer, activations):
    model = graph(RESIDUAL)
    plan = make_plan(model, calibration_of(model), dialect(), exclude=exclude)
    assert (" ".join(plan.nodes), set(plan.activations)) == (integer, set(activations.split()))
    assert plan.found_by == f"minmax, 2 samples, without {next(iter(exclude))} (it hurts)"


def test_an_exclusion_that_names_nothing_is_refused(graph, dialect):
    model = graph(RESIDUAL)
    with pytest.raises(PlanError, match="did you mean 'd:Conv'"):
        make_plan(model, calibration_of(model), dialect(), exclude={"d:Con": "typo"})


def test_data_free_calibration_is_said_in_the_plan(graph, dialect):
    model = graph(RESIDUAL)
    assert make_plan(model, replace(calibration_of(model), data_free=True), dialect()).data_free


def test_statistics_of_another_model_are_refused(graph, dialect):
    model, other = graph(RESIDUAL), graph(f"z = {CONV}(x, w)")
    with pytest.raises(CalibrationError, match="statistics of a model with digest"):
        make_plan(model, calibration_of(other), dialect())


QUANTIZED = (
    "(float[batch,3] x, float s, uint8 z) => (float[batch,3] y) "
    "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
)


def test_a_quantized_model_is_refused(model_text, dialect):
    model = model_text(QUANTIZED)
    with pytest.raises(AlreadyQuantizedError, match="QuantizeLinear"):
        make_plan(model, calibration_of(model), dialect())
    with pytest.raises(AlreadyQuantizedError, match="QuantizeLinear"):
        dynamic_plan(model, dialect())


def test_a_model_with_nothing_to_quantize_is_refused(graph, dialect):
    model = graph("s = Sin(x) z = Cos(s)")
    with pytest.raises(PlanError, match="the model has Cos, Sin, the dialect takes Conv, Gemm"):
        make_plan(model, calibration_of(model), dialect())
    with pytest.raises(PlanError, match="the dialect takes MatMul, Gemm"):
        dynamic_plan(model, dialect())


def test_a_dynamic_plan_has_the_products_with_a_constant(graph, dialect):
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


def test_the_needed_tensors_give_the_same_plan(graph, dialect, open_model):
    model = graph(RESIDUAL)
    samples = ArraySamples({"x": noise(40, 4, 6, 6)})
    needed = needed_tensors(model, [dialect()])
    assert needed == ["x", "r", "d", "z"]
    part, whole = (collect(model, samples, open_model, tensors=tensors) for tensors in (needed, None))
    assert dump_json(make_plan(model, part, dialect())) == dump_json(make_plan(model, whole, dialect()))


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plans_of_random_networks_are_closed(data, graph, dialect):
    """Whatever the graph: an integer node has ranges for all it reads, a range has an integer node beside it."""
    names, nodes = ["x"], []
    for index in range(data.draw(st.integers(1, 8))):
        out = f"t{index}"
        kind = data.draw(st.sampled_from(["conv", "Relu", "Add", "Mul", "Sin", "pool", "Sigmoid"]))
        first, second = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        nodes.append(
            {
                "conv": f"{out} = {CONV}({first}, w)",
                "pool": f"{out} = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>({first})",
            }.get(kind, f"{out} = {kind}({first}, {second})" if kind in ("Add", "Mul") else f"{out} = {kind}({first})")
        )
        names.append(out)
    model = graph(" ".join(nodes) + f" z = {CONV}({names[-1]}, v)")
    rules = dialect()
    plan = make_plan(model, calibration_of(model), rules)
    check_plan(plan, model)

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


def test_a_plan_fits_its_model(graph, dialect):
    model = graph(RESIDUAL)
    check_plan(make_plan(model, calibration_of(model), dialect()), model)
    check_plan(float_plan(model), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: {"model_digest": "0" * 64}, "a plan for digest 000000000000"),
        (lambda plan: {"nodes": {"d:Con": Precision.INT8}}, r"node 'd:Con', .* \(it has 'd:Conv'\)"),
        (lambda plan: {"activations": {"q": plan.activations["x"]}}, "tensor 'q', which the model does not have"),
        (lambda plan: {"weights": {"x": plan.weights["w"]}}, "weight 'x', which the model does not have"),
        (lambda plan: {"weights": {"w": replace(plan.weights["w"], axis=4)}}, "axis 4 for weight 'w' of shape"),
    ],
    ids=["digest", "node", "tensor", "weight", "axis"],
)
def test_a_plan_that_does_not_fit_is_refused(graph, dialect, change, message):
    model = graph(RESIDUAL)
    plan = make_plan(model, calibration_of(model), dialect())
    with pytest.raises(PlanError, match=message):
        check_plan(replace(plan, **change(plan)), model)
