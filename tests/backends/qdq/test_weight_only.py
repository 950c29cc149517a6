"""Integer weights alone behind a DequantizeLinear, as OpenVINO and TensorRT read them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from edgeport.backends.openvino.rules import rules_for
from edgeport.backends.qdq.write import quantize_ir
from edgeport.contracts import Precision, QuantizationPlan, WeightQuantization
from edgeport.errors import PlanError


def plan_of(weights, **nodes) -> QuantizationPlan:
    return QuantizationPlan(dialect="openvino", model_digest="", nodes=nodes, weights=weights)


def run(model, x) -> np.ndarray:
    """With all optimisations off, so that the file is computed as it stands."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("transposed", [False, True], ids=["MatMul", "Gemm"])
@pytest.mark.parametrize(
    ("precision", "dtype", "block"),
    [
        (Precision.INT8_WEIGHTS, "int8", None),
        (Precision.INT4_WEIGHTS_32, "int4", 32),
        (Precision.UINT4_WEIGHTS_64, "uint4", 64),
    ],
    ids=str,
)
def test_the_file_computes_what_the_rounded_weight_gives(
    precision, dtype, block, transposed, make_graph, stored_weights
):
    weight = np.random.default_rng(1).standard_normal((5, 128) if transposed else (128, 5)).astype(np.float32)
    node = helper.make_node(*(("Gemm", ["x", "w"]) if transposed else ("MatMul", ["x", "w"])), ["y"], name="node")
    if transposed:
        node.attribute.append(helper.make_attribute("transB", 1))
    model = make_graph([node], {"w": weight}, ["n", 128], ["y"])
    summed = 1 if transposed else 0
    axis = 1 - summed if block is None else summed
    spec = WeightQuantization(dtype=dtype, axis=axis, block_size=block, symmetric=not dtype.startswith("u"))
    quantize_ir(model, plan_of({"w": spec}, node=precision), rules_for())

    first, second = model.graph
    assert (first.op_type, second.op_type) == ("DequantizeLinear", "Gemm" if transposed else "MatMul")
    assert first.inputs[0].dtype == ir.DataType[dtype.upper()]
    assert len(first.inputs) == (3 if dtype == "uint4" else 2)
    assert first.metadata_props["edgeport.module"] == "net.node"
    assert "w" not in model.graph.initializers
    assert model.opset_imports[""] == (20 if block is None else 21)
    x = np.random.default_rng(2).standard_normal((3, 128)).astype(np.float32)
    expected = stored_weights.rounded(weight, spec)
    np.testing.assert_allclose(run(model, x), x @ (expected.T if transposed else expected), rtol=1e-4, atol=1e-4)


def test_readers_share_one_dequantize_linear_and_a_float_one_keeps_the_weight(make_graph):
    nodes = [helper.make_node("MatMul", [a, "w"], [b], name=b) for a, b in (("x", "a"), ("a", "b"), ("b", "y"))]
    model = make_graph(nodes, {"w": np.eye(32, dtype=np.float32)}, ["n", 32], ["y"])
    spec = WeightQuantization(dtype="int4", axis=0, block_size=32)
    quantize_ir(model, plan_of({"w": spec}, a=Precision.INT4_WEIGHTS_32, b=Precision.INT4_WEIGHTS_32), rules_for())
    assert [node.op_type for node in model.graph] == ["DequantizeLinear", "MatMul", "MatMul", "MatMul"]
    restored, one, two, three = model.graph
    assert one.inputs[1] is two.inputs[1] is restored.outputs[0]
    assert three.inputs[1].name == "w"


@pytest.mark.parametrize(
    ("opset", "operator", "says"),
    [
        (17, "Relu", "a model of opset 17, with operators of another meaning in opset 21"),
        (20, "GroupNormalization", r"opset 20, with node 'odd' \(GroupNormalization\) of another meaning"),
    ],
)
def test_blocks_need_opset_21_and_say_what_stands_in_its_way(opset, operator, says, make_graph):
    odd = ["x", "s", "s"] if operator == "GroupNormalization" else ["x"]
    attributes = {"num_groups": 1} if operator == "GroupNormalization" else {}
    model = make_graph(
        [
            helper.make_node(operator, odd, ["a"], name="odd", **attributes),
            helper.make_node("MatMul", ["a", "w"], ["y"], name="y"),
        ],
        {"w": np.eye(32, dtype=np.float32), "s": np.ones(1, dtype=np.float32)},
        [1, 1, 32],
        ["y"],
        opset,
    )
    blocks = {"w": WeightQuantization(dtype="int4", axis=0, block_size=32)}
    with pytest.raises(PlanError, match=says):
        quantize_ir(model, plan_of(blocks, y=Precision.INT4_WEIGHTS_32), rules_for())
    channels = {"w": WeightQuantization(axis=1)}
    quantize_ir(model, plan_of(channels, y=Precision.INT8_WEIGHTS), rules_for())  # needs nothing newer
    assert model.opset_imports[""] == opset


@pytest.mark.parametrize(
    ("operator", "says"),
    [("Gather", r"a weight of shape \(32, 32\), in blocks"), ("Conv", "does this for")],
)
def test_blocks_where_the_dialect_has_none_are_refused_by_name(operator, says, make_graph):
    inputs = ["w", "i"] if operator == "Gather" else ["x", "w"]
    model = make_graph(
        [helper.make_node(operator, inputs, ["y"], name="odd")],
        {"w": np.eye(32, dtype=np.float32), "i": np.array([1])},
        ["n", 32],
        ["y"],
    )
    spec = WeightQuantization(dtype="int4", axis=1, block_size=32)
    with pytest.raises(PlanError, match=says) as caught:
        quantize_ir(model, plan_of({"w": spec}, odd=Precision.INT4_WEIGHTS_32), rules_for())
    assert "node 'odd'" in caught.value.asked


def test_four_bits_without_blocks_are_refused(make_graph):
    model = make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")], {"w": np.eye(4, dtype=np.float32)}, ["n", 4], ["y"]
    )
    with pytest.raises(PlanError, match=r"4 bits in blocks of weights"):
        quantize_ir(
            model, plan_of({"w": WeightQuantization(dtype="int4", axis=1)}, y=Precision.INT8_WEIGHTS), rules_for()
        )
