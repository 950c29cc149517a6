"""The dialect: what the Q/DQ file looks like, that TensorRT takes it, and that its numbers are right.

No engine can run here, so the numbers of the very file that is built are checked on ONNX Runtime.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.qdq.write import write_plan
from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt.backend import write_tensorrt
from edgeport.backends.tensorrt.rules import rules
from edgeport.calibration.plan import float_plan, make_plan
from edgeport.contracts import ActivationQuantization, ExecutionConfig, OnnxModel, Precision
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import open_onnx, read_ir

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
needs_tensorrt = pytest.mark.skipif(not KNOWN.installed, reason=f"tensorrt: {KNOWN.reason}")


def sqnr_db(reference, other) -> float:
    return float(10 * np.log10(np.square(reference).sum() / max(np.square(reference - other).sum(), 1e-30)))


def run_on_onnxruntime(model: OnnxModel, feeds) -> np.ndarray:
    with open_reference(model.path) as run:
        return run(feeds)["scores"]


@pytest.fixture(scope="module", params=["cnn", "perceptron"])
def network(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def written(network, tmp_path_factory) -> OnnxModel:
    plan = make_plan(network.model, network.calibration, rules())
    return write_tensorrt(network.model, plan, tmp_path_factory.mktemp("dialect") / "quantized.onnx")


def test_everything_is_symmetric_int8_and_no_bias_is_quantized(written):
    nodes = [node for node in read_ir(written).graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert any(node.op_type == "QuantizeLinear" for node in nodes)
    for node in nodes:
        zero_point = node.inputs[2].const_value.numpy()
        assert zero_point.dtype == np.int8, node.name
        assert not zero_point.any(), node.name
        source = node.inputs[0]
        if source.const_value is not None:
            assert source.const_value.numpy().dtype == np.int8, f"{node.name}: an int32 bias is refused by TensorRT"
            assert source.const_value.numpy().min() >= -127, f"{node.name}: -128 has no counterpart"


def test_weights_have_a_scale_per_output_channel(written):
    for node in read_ir(written).graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0].const_value is not None:
            integers, scale = node.inputs[0].const_value.numpy(), node.inputs[1].const_value.numpy()
            axis = node.attributes.get_int("axis", 1)
            assert scale.shape == (integers.shape[axis],)


def test_numbers_are_close_to_float(written, network):
    assert sqnr_db(network.scores, run_on_onnxruntime(written, network.feeds)) > 25


def test_fused_kernels_compute_what_the_file_says(written, network):
    """ONNX Runtime's kernels against the file as the ONNX specification has it, pair by pair, in numpy."""
    plain = ReferenceEvaluator(onnx.load(written.path)).run(None, network.feeds)[0]
    fused = run_on_onnxruntime(written, network.feeds)
    # An activation that lies on the edge between two integers may fall to either side.
    assert sqnr_db(plain, fused) > 35


@needs_tensorrt
def test_tensorrt_parses_and_builds_it(network, tmp_path):
    plan = make_plan(network.model, network.calibration, rules())
    artifact = BACKEND.compile(network.model, plan, ExecutionConfig(batch=2), tmp_path / "artifact")
    assert (artifact.folder / artifact.entry).stat().st_size > 10_000
    operators = {node.operator for node in BACKEND.placement(artifact).nodes}
    assert {"QUANTIZE", "DEQUANTIZE"} <= operators


@needs_tensorrt
def test_parser_would_refuse_another_dialect(cnn, tmp_path):
    """The check above can fail: uint8 with zero points is refused, and the reason is the dialect."""
    plan = make_plan(cnn.model, cnn.calibration, rules())
    shifted = ActivationQuantization(dtype="uint8", minimum=-1.0, maximum=2.0)
    plan = dataclasses.replace(plan, activations=dict.fromkeys(plan.activations, shifted))
    model = write_plan(cnn.model, plan, rules(), tmp_path / "shifted.onnx")
    with pytest.raises(UnsupportedByBackend, match="QuantizeLinear") as caught:
        BACKEND.compile(model, float_plan(model), ExecutionConfig(), tmp_path / "artifact")
    assert "plan again in the dialect 'tensorrt'" in caught.value.fix


def test_float16_stands_in_the_graph(network, tmp_path):
    half = write_tensorrt(network.model, float_plan(network.model, Precision.FP16), tmp_path / "half.onnx")
    graph = read_ir(half).graph
    assert {value.const_value.dtype.name for value in graph.initializers.values()} <= {"FLOAT16", "INT64"}
    assert [(spec.name, spec.dtype) for spec in (*half.inputs, *half.outputs)] == [
        ("image", "float32"),
        ("scores", "float32"),
    ]
    assert 45 < sqnr_db(network.scores, run_on_onnxruntime(half, network.feeds)) < 90


def test_float16_is_refused_where_a_weight_does_not_fit(save_onnx, small_onnx, tmp_path):
    weight = onnx.numpy_helper.from_array(np.full((3, 4), 1e5, dtype=np.float32), "w")
    small_onnx.graph.initializer[0].CopyFrom(weight)
    model = open_onnx(save_onnx(small_onnx))
    with pytest.raises(UnsupportedByBackend, match="100000"):
        write_tensorrt(model, float_plan(model, Precision.FP16), tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()
