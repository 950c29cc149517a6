"""From a plan to an IR: names, bytes, refusals."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.openvino import create_backend
from edgeport.backends.openvino.capabilities import supported
from edgeport.backends.openvino.dialect import write_openvino
from edgeport.backends.openvino.rules import rules_for
from edgeport.backends.qdq.qdq_pruning import read_pairs_only
from edgeport.calibration.collect import collect
from edgeport.calibration.data.arrays import ArraySamples
from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan
from edgeport.contracts import DataParallel, ExecutionConfig, ModelParallel, Precision
from edgeport.errors import BackendError, UnsupportedByBackend
from edgeport.onnx_files import open_onnx, read_ir

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
pytestmark = pytest.mark.skipif(not KNOWN.can_run, reason=f"openvino: {KNOWN.reason}")


def test_equal_plans_give_equal_bytes_in_another_process(cnn, tmp_path):
    """OpenVINO counts the nodes that a process made, and writes the counter into names."""
    plan = make_plan(cnn.model, cnn.calibration, rules_for())
    for _ in range(2):
        BACKEND.compile(cnn.model, plan, ExecutionConfig(), tmp_path / f"warm{_}")
    first = BACKEND.compile(cnn.model, plan, ExecutionConfig(), tmp_path / "here")
    from edgeport.contracts import to_jsonable
    from edgeport.isolation import run_isolated

    payload = {
        "backend": "openvino",
        "model": to_jsonable(cnn.model),
        "plan": to_jsonable(plan),
        "execution": to_jsonable(ExecutionConfig()),
        "folder": str(tmp_path / "there"),
    }
    second = run_isolated("edgeport.testing.compile_worker:compile_artifact", payload)
    assert second["digest"] == first.digest


def test_unknown_operator_names_node_and_module(foreign_model, tmp_path):
    with pytest.raises(UnsupportedByBackend) as caught:
        BACKEND.compile(foreign_model, float_plan(foreign_model), ExecutionConfig(), tmp_path / "artifact")
    error = caught.value
    assert "node 'fold' (module 'neck.fold') uses Fold" in error.found
    assert "com.acme.Fold" in error.found
    assert error.details["nodes"] == ["fold"]
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("execution", "word"),
    [
        pytest.param(ExecutionConfig(layout=DataParallel(streams=1, cores=((0,),))), "processors", id="pinned streams"),
        pytest.param(ExecutionConfig(layout=ModelParallel(stages=2)), "model-parallel", id="stages"),
        pytest.param(ExecutionConfig(spinning=False), "spinning", id="spinning"),
    ],
)
def test_refuses_settings_it_has_not(execution, word, cnn, tmp_path):
    with pytest.raises(UnsupportedByBackend, match=word):
        BACKEND.compile(cnn.model, float_plan(cnn.model), execution, tmp_path / "artifact")


def test_precisions_follow_the_processor():
    bare = supported([], vnni=False)
    stored = {precision for precision in Precision if precision.weight_form is not None}
    assert {precision for precision, support in bare.items() if support.available} == {Precision.FP32, *stored}
    assert all(support.reason for support in bare.values() if not support.available)
    full = supported(["BF16", "FP16", "INT8"], vnni=True)
    assert [one for one, support in full.items() if not support.available] == [Precision.FP8, Precision.INT16]


def test_pairs_stand_only_where_integers_are_read(cnn):
    plan = make_plan(cnn.model, cnn.calibration, rules_for())
    pruned = read_pairs_only(read_ir(cnn.model).graph, plan, rules_for())
    gone = plan.activations.keys() - pruned.activations.keys()
    assert gone == {"scores"}, "the model's output"
    assert "right_out" not in plan.activations, "SiLU is folded"
    assert {"image", "stem_relu_out", "pointwise_out", "maxpool_out", "silu_out"} <= pruned.activations.keys()
    assert read_pairs_only(read_ir(cnn.model).graph, pruned, rules_for()) == pruned


def test_dynamic_plan_becomes_int8_weights_alone(perceptron, tmp_path):
    written = write_openvino(perceptron.model, dynamic_plan(perceptron.model, rules_for()), tmp_path / "q.onnx")
    counts = Counter(node.op_type for node in read_ir(written).graph)
    assert counts["DequantizeLinear"] == 2
    assert not counts["QuantizeLinear"] + counts["DynamicQuantizeLinear"] + counts["MatMulInteger"]


def test_model_that_is_quantized_already_passes_through(cnn, tmp_path):
    quantized = write_openvino(cnn.model, make_plan(cnn.model, cnn.calibration, rules_for()), tmp_path / "q.onnx")
    artifact = BACKEND.compile(quantized, float_plan(quantized), ExecutionConfig(), tmp_path / "artifact")
    assert BACKEND.placement(artifact).share("int8") > 0.8


def test_precision_that_openvino_would_replace_is_refused(cnn, tmp_path):
    """Asked for a precision that the processor has not, the plugin takes another and says nothing."""
    if KNOWN.precisions[Precision.FP16].available:
        pytest.skip("this processor has float16")
    artifact = BACKEND.compile(cnn.model, float_plan(cnn.model), ExecutionConfig(), tmp_path / "artifact")
    from edgeport.backends.artifacts import artifact_digest

    settings = {**artifact.settings, "precision": "f16"}
    forged = dataclasses.replace(artifact, settings=settings, digest=artifact_digest(artifact.folder, settings))
    with pytest.raises(BackendError, match="asked to compute in f16 on CPU; found that OpenVINO chose"):
        BACKEND.open(forged)


def test_import_starts_no_telemetry():
    """`import openvino` alone sends an event to Google Analytics from a thread of its own."""
    code = (
        "from edgeport.backends.openvino.session import import_openvino; import_openvino(); import sys, threading;"
        "assert 'openvino' in sys.modules; assert not [m for m in sys.modules if m.startswith('openvino_telemetry')];"
        "assert threading.active_count() == 1"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_constant_of_an_integer_sum_has_all_axes(save_onnx, tmp_path):
    """ConvNeXt-Tiny with biases of zeros failed in OpenVINO 2026.4, which moves them behind the Transpose."""
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        net (float[batch, 4, 4, 16] x) => (float[batch, 4, 4, 32] m, float[batch, 32, 4, 4] y)
        { m = MatMul(x, w) s = Add(m, b) t = Transpose<perm=[0,3,1,2]>(s) y = Mul(t, c) }
    """
    random = np.random.default_rng(0)
    constants = {"w": random.standard_normal((16, 32)), "b": np.zeros(32), "c": np.full((32, 1, 1), 0.5)}
    proto = onnx.parser.parse_model(text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    model = open_onnx(save_onnx(onnx.shape_inference.infer_shapes(proto)))
    samples = ArraySamples({"x": random.standard_normal((8, 4, 4, 16)).astype(np.float32)})
    plan = make_plan(model, collect(model, samples, open_reference), rules_for())
    assert {"m", "s"} <= plan.nodes.keys()
    written = read_ir(write_openvino(model, plan, tmp_path / "written.onnx"))
    assert list(written.graph.initializers["b_quantized"].const_value.shape) == [1, 1, 1, 32]


def test_input_that_is_given_out_as_it_is_keeps_its_name(save_onnx, tmp_path):
    """OpenVINO makes nothing of a Dropout, and calls the input like what comes out of it."""
    text = """
        <ir_version: 8, opset_import: ["" : 13]>
        net (float[batch, 4] x, float[batch, 4] m) => (float[batch, 4] y, float[batch, 4] again, float[batch, 4] z)
        { y = Dropout(x) again = Sum(x) z = Add(x, m) }
    """
    proto = onnx.parser.parse_model(text)
    for node in proto.graph.node:
        node.name = node.output[0]
    model = open_onnx(save_onnx(proto))
    artifact = BACKEND.compile(model, float_plan(model), ExecutionConfig(), tmp_path / "artifact")
    session = BACKEND.open(artifact)
    x, m = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    call = session.bind({"x": x, "m": m})
    call.run()
    outputs = call.outputs()
    session.close()
    assert list(outputs) == ["y", "again", "z"]
    np.testing.assert_array_equal(outputs["y"], x)
    np.testing.assert_array_equal(outputs["again"], x)
    np.testing.assert_allclose(outputs["z"], x + m)
