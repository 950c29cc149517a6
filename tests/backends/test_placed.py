"""A placement held against its plan: which nodes strayed, of which modules, and why."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeport.contracts import (
    NodeOrigin,
    NodePlacement,
    Outcome,
    Placement,
    Precision,
    QuantizationPlan,
    compared,
    dump_json,
    load_json,
)
from edgeport.errors import PlacementMissed
from edgeport.onnx_files import integer_nodes
from edgeport.pipeline.compilation.placement import judge_placement, require_placement

NODES = {
    "a": NodeOrigin(operator="Conv", module="layer1.conv"),
    "b": NodeOrigin(operator="Gemm", module="head"),
    "c": NodeOrigin(operator="Softmax"),
}


def kernel(origin, precision, *, device="CPU", reason=""):
    return NodePlacement(
        name=origin, operator="K", device=device, precision=precision, origin=tuple(origin.split()), reason=reason
    )


def placed(*kernels, default=Precision.FP32, device="", **planned):
    plan = QuantizationPlan(dialect="d", model_digest="m", default=default, nodes=planned)
    return compared(Placement(nodes=kernels, source="test"), plan, NODES, device=device)


def test_a_node_that_ran_otherwise_is_named_with_its_operator_module_and_reason():
    found = placed(kernel("a", "fp32", reason="no kernel"), kernel("b", "int8"), a=Precision.INT8, b=Precision.INT8)
    (one,) = found.misplaced
    assert str(one) == "Conv a (module layer1.conv) ran as fp32 on CPU: no kernel"
    assert (one.planned, found.planned, found.as_planned) == ("int8", 2, 0.5)
    assert load_json(Placement, dump_json(found)) == found


@pytest.mark.parametrize(
    ("found", "share"),
    [
        pytest.param(placed(kernel("a", "fp32")), 1.0, id="float32 leaves it to the runtime"),
        pytest.param(placed(kernel("a", "bf16"), kernel("b", "fp32"), default=Precision.BF16), 0.5, id="bf16"),
        pytest.param(
            placed(kernel("a", "int8"), kernel("a c", "fp32"), a=Precision.INT8), 1.0, id="one of two kernels"
        ),
        pytest.param(placed(kernel("a", ""), a=Precision.INT8), 0.0, id="nothing was seen"),
        pytest.param(placed(kernel("a", "fp32", device="GPU"), kernel("b", "fp32"), device="GPU"), 0.5, id="fallback"),
        pytest.param(placed(kernel("a", "fp32"), a=Precision.FP32), 1.0, id="a float by name"),
        pytest.param(placed(kernel("a", "int8"), a=Precision.FP32), 0.0, id="a float by name that strayed"),
    ],
)
def test_the_share(found, share):
    assert found.as_planned == share


def test_the_gate_passes_fails_and_does_not_know():
    half = placed(kernel("a", "fp32"), kernel("b", "int8"), a=Precision.INT8, b=Precision.INT8)
    assert judge_placement(half, 0.5)[0] is Outcome.PASS
    outcome, said = judge_placement(half, 0.95)
    assert outcome is Outcome.FAIL
    assert said.startswith(
        "1 of 2 planned nodes (50.0%) ran as planned, 0.95 of them must: Conv a (module layer1.conv)"
    )
    assert judge_placement(None, 0.5)[0] is Outcome.UNMEASURED
    assert judge_placement(Placement(nodes=(), source="test"), 0.5)[0] is Outcome.UNMEASURED


def test_what_is_missed_is_an_error_with_the_exit_code_of_a_missed_budget():
    require_placement(placed(kernel("a", "int8"), a=Precision.INT8), 1.0, "compile net")
    with pytest.raises(PlacementMissed, match="Conv a") as raised:
        require_placement(placed(kernel("a", "fp32"), a=Precision.INT8), 1.0, "compile net")
    assert (raised.value.exit_code, raised.value.details["misplaced"][0]["module"]) == (3, "layer1.conv")


def test_the_integers_of_a_file_that_came_quantized():
    """A product between pairs, one with a float input, and a Relu that a pair follows."""
    node, dq = helper.make_node, "DequantizeLinear"
    graph = helper.make_graph(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
            node(dq, ["xq", "s", "z"], ["xd"], name="dq"),
            node(dq, ["w", "s"], ["wd"], name="dqw"),
            node("MatMul", ["xd", "wd"], ["y"], name="between"),
            node("Relu", ["xd"], ["r"], name="relu"),
            node("QuantizeLinear", ["r", "s", "z"], ["rq"], name="q2"),
            node("MatMul", ["x", "wd"], ["f"], name="weights_alone"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("y", "f")],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("z", TensorProto.INT8, [], [0]),
            helper.make_tensor("w", TensorProto.INT8, [2, 2], [1, 2, 3, 4]),
        ],
    )
    model = ir.serde.deserialize_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert onnx.checker.check_model(ir.serde.serialize_model(model)) is None
    assert integer_nodes(model) == ["between", "relu"]
