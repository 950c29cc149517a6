"""Each node's float in the graph: any mix, beside integers too; TensorRT takes it, and its numbers are right."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgeport.backends.float_precision import write_floats
from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt.backend import write_tensorrt
from edgeport.backends.tensorrt.rules import rules
from edgeport.calibration.mixed_plan import mixed_plan
from edgeport.calibration.plan import float_plan
from edgeport.contracts import ExecutionConfig, Mix, NodeChoice, OnnxModel, Precision
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import open_onnx, read_ir

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
needs_tensorrt = pytest.mark.skipif(not KNOWN.installed, reason=f"tensorrt: {KNOWN.reason}")
FP32, FP16, BF16 = Precision.FP32, Precision.FP16, Precision.BF16
CHOICES = (NodeChoice(what="left", precision=FP16), NodeChoice(what="head", precision=BF16))


def sqnr_db(reference, other) -> float:
    return float(10 * np.log10(np.square(reference).sum() / max(np.square(reference - other).sum(), 1e-30)))


def scores(model: OnnxModel, feeds) -> np.ndarray:
    """As the ONNX specification has it: ONNX Runtime has no bfloat16 kernels here."""
    return ReferenceEvaluator(onnx.load(model.path)).run(None, dict(feeds))[0]


def types(model: OnnxModel) -> dict[str, ir.DataType]:
    """What each node of the graph reads first, by name."""
    return {str(node.name): node.inputs[0].dtype for node in read_ir(model).graph if node.inputs}


def strict(model: OnnxModel) -> None:
    """Every operator gets the types that ONNX allows it, and gives those that are declared."""
    proto = onnx.load(model.path)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)


@pytest.fixture(scope="module")
def mixed(cnn, tmp_path_factory):
    plan = mixed_plan(cnn.model, rules(), Precision.INT8, Mix(nodes=CHOICES), cnn.calibration)
    return plan, write_tensorrt(cnn.model, plan, tmp_path_factory.mktemp("mixed") / "mixed.onnx")


def test_integers_and_three_floats_stand_in_one_graph(mixed, cnn):
    _, model = mixed
    strict(model)
    found = types(model)
    assert (found["left"], found["head"]) == (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    assert found["stem"] == found["pointwise"] == ir.DataType.FLOAT, "integers are float32 on their float side"
    assert [(spec.name, spec.dtype) for spec in (*model.inputs, *model.outputs)] == [
        ("image", "float32"),
        ("scores", "float32"),
    ]
    assert sqnr_db(cnn.scores, scores(model, cnn.feeds)) > 25


@needs_tensorrt
def test_tensorrt_builds_it_and_is_handed_each_float(mixed, cnn, tmp_path):
    plan, _ = mixed
    artifact = BACKEND.compile(cnn.model, plan, ExecutionConfig(), tmp_path / "artifact")
    if not KNOWN.can_run:
        layers = {node.name: node.reason for node in BACKEND.placement(artifact).nodes}
        assert "hands it float16 numbers" in layers["left"]
        assert "hands it bfloat16 numbers" in layers["head"]
        assert "hands it int8 numbers, dequantized" in layers["stem"]


@needs_tensorrt
@pytest.mark.parametrize("rest", [FP16, BF16], ids=str)
def test_integers_stand_beside_any_float(rest, perceptron, tmp_path):
    choices = (NodeChoice(what="down", precision=FP32),)
    mix = Mix(rest=rest, nodes=choices)
    plan = mixed_plan(perceptron.model, rules(), Precision.INT8, mix, perceptron.calibration)
    artifact = BACKEND.compile(perceptron.model, plan, ExecutionConfig(), tmp_path / "artifact")
    assert artifact.precision is Precision.INT8
    strict(write_tensorrt(perceptron.model, plan, tmp_path / "written.onnx"))


def test_constants_are_stored_in_the_type_of_their_readers(tmp_path):
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]>
        net (float[2] x) => (float[2] y, float[2] z)
        <float[2] w = {1.0, 2.0}>
        {
            c = Constant <value_float = 3.0> ()
            a = Mul (x, w)
            b = Add (a, c)
            y = Mul (b, w)
            z = Sub (y, c)
        }"""
    )
    for node in proto.graph.node:
        node.name = node.output[0]
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    model = open_onnx(path)
    found = write_floats(model, tmp_path / "typed.onnx", FP32, {"b": FP16, "y": BF16})
    strict(found)
    graph = read_ir(found).graph
    assert {name: value.dtype.name for name, value in graph.initializers.items()} == {
        "w": "FLOAT",
        "c_half": "FLOAT16",
        "w_bfloat16": "BFLOAT16",
    }
    outputs = ReferenceEvaluator(onnx.load(found.path)).run(None, {"x": np.array([0.5, 0.25], np.float32)})
    assert [output.tolist() for output in outputs] == [[3.5, 7.0], [0.5, 4.0]]
    assert all(output.dtype == np.float32 for output in outputs)


def test_a_branch_is_refused(tmp_path):
    text = """<ir_version: 10, opset_import: ["": 20]>
        net (float[2] x, bool c) => (float[2] y)
        { y = If (c) <then_branch = t () => (float[2] a) { a = Neg (x) },
                      else_branch = e () => (float[2] b) { b = Abs (x) }> }"""
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    model = open_onnx(path)
    plan = dataclasses.replace(float_plan(model), default=BF16)
    with pytest.raises(
        UnsupportedByBackend, match=r"in bfloat16; found node .* \(If\), which holds a graph of its own"
    ):
        write_tensorrt(model, plan, tmp_path / "typed.onnx")
