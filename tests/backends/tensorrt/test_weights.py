"""Integer weights alone for TensorRT: engines build, and keep the weights narrow; what it has not is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt.backend import write_tensorrt
from edgeport.backends.tensorrt.rules import rules
from edgeport.calibration.plan import float_plan
from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import ExecutionConfig, Precision
from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import open_onnx

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
BUILDS = KNOWN.installed and KNOWN.precisions[Precision.FP32].available
pytestmark = pytest.mark.skipif(not BUILDS, reason=f"tensorrt: {KNOWN.reason}")


@pytest.mark.parametrize(
    ("precision", "share"), [(Precision.INT8_WEIGHTS, 0.3), (Precision.INT4_WEIGHTS_32, 0.2)], ids=str
)
def test_the_engine_keeps_the_weights_narrow(precision, share, stored_weights, tmp_path):
    """Of 1.3 MB of weights in products; the rest of an engine, its kernels, is some 600 kB."""
    stored = stored_weights.make_stored(tmp_path, summed=512, hidden=512)
    plan = weight_plan(stored.model, rules(), precision)
    assert set(plan.nodes) == {"hidden", "head"}  # no table
    artifact = BACKEND.compile(stored.model, plan, ExecutionConfig(), tmp_path / "artifact")
    whole = BACKEND.compile(stored.model, float_plan(stored.model), ExecutionConfig(), tmp_path / "float")
    in_products = stored.weights["w"].nbytes + stored.weights["g"].nbytes
    # What replaces float weights, and the kernels for it.
    assert artifact.size_bytes < whole.size_bytes - in_products * (1 - share) + 200_000
    bits = precision.weight_form.stored
    layers = {node.name: node.reason for node in BACKEND.placement(artifact).nodes if "MATRIX" in node.operator}
    if not KNOWN.can_run:
        assert set(layers) == {"hidden", "head"}
        assert all(f"and weights of {bits}, dequantized" in reason for reason in layers.values())


def test_convolutions_keep_int8_weights_in_the_engine(tmp_path):
    random = np.random.default_rng(0)
    weights = {name: (0.05 * random.standard_normal((96, 96, 3, 3))).astype(np.float32) for name in ("w", "v")}
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]>
        net (float[1,96,8,8] x) => (float[1,96,8,8] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            r = Relu (a)
            y = Conv <pads = [1, 1, 1, 1]> (r, v)
        }"""
    )
    for node in proto.graph.node:
        node.name = node.output[0]
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())
    model = open_onnx(path)
    plan = weight_plan(model, rules(), Precision.INT8_WEIGHTS)
    assert dict(plan.nodes) == dict.fromkeys(("a", "y"), Precision.INT8_WEIGHTS)
    artifact = BACKEND.compile(model, plan, ExecutionConfig(), tmp_path / "artifact")
    whole = BACKEND.compile(model, float_plan(model), ExecutionConfig(), tmp_path / "float")
    in_float = sum(array.nbytes for array in weights.values())
    assert artifact.size_bytes < whole.size_bytes - 0.7 * in_float + 200_000  # kernels for it, as above
    if not KNOWN.can_run:
        layers = {node.name: node.reason for node in BACKEND.placement(artifact).nodes}
        assert all("weights of int8, dequantized" in layers[name] for name in plan.nodes)
    feeds = {"x": random.standard_normal((1, 96, 8, 8)).astype(np.float32)}
    written = write_tensorrt(model, plan, tmp_path / "written.onnx")
    with open_reference(model.path) as true, open_reference(written.path) as narrow:
        wanted, found = true(feeds)["y"], narrow(feeds)["y"]
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()) > 35


@pytest.mark.parametrize("precision", [Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS_128], ids=str)
def test_what_is_not_integer_can_be_float16(precision, stored_weights, tmp_path):
    """No engine runs here, so the numbers of the very file that is built are checked on ONNX Runtime."""
    import onnxruntime as ort

    stored = stored_weights.make_stored(tmp_path, summed=128, hidden=128)
    plan = dataclasses.replace(weight_plan(stored.model, rules(), precision), default=Precision.FP16)
    artifact = BACKEND.compile(stored.model, plan, ExecutionConfig(), tmp_path / "artifact")
    layers = {node.name: node.reason for node in BACKEND.placement(artifact).nodes if "MATRIX" in node.operator}
    bits = precision.weight_form.stored
    if not KNOWN.can_run:
        said = f"float16 numbers, and weights of {bits}, dequantized"
        assert [said in layers[name] for name in ("hidden", "head")] == [True, True]
    written = write_tensorrt(stored.model, plan, tmp_path / "written.onnx")
    session = ort.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    found = session.run(None, dict(stored.feeds))[0]
    assert found.dtype == np.float32
    assert stored_weights.sqnr_db(stored.outputs(plan), found) > 55


def test_a_scale_that_float16_can_not_hold_is_named(stored_weights, tmp_path):
    stored = stored_weights.make_stored(tmp_path, summed=64, hidden=64)
    proto = onnx.load(stored.model.path)
    for tensor in proto.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(stored.weights["w"] * np.float32(1e-3), "w"))
    path = tmp_path / "small.onnx"
    path.write_bytes(proto.SerializeToString())
    model = open_onnx(path)
    plan = dataclasses.replace(weight_plan(model, rules(), Precision.INT8_WEIGHTS), default=Precision.FP16)
    with pytest.raises(UnsupportedByBackend, match=r"store 'w_scale' as float16; found the scale .*fp32"):
        BACKEND.compile(model, plan, ExecutionConfig(), tmp_path / "artifact")


def test_zero_points_and_int16_are_refused_with_the_reason(stored_weights, tmp_path):
    assert "zero point 0 only" in KNOWN.precisions[Precision.UINT4_WEIGHTS_32].reason
    assert "16-bit" in KNOWN.precisions[Precision.INT16].reason
    stored = stored_weights.make_stored(tmp_path)
    plan = weight_plan(stored.model, rules(), Precision.UINT4_WEIGHTS_32)
    with pytest.raises(UnsupportedByBackend, match="no uint4"):
        BACKEND.compile(stored.model, plan, ExecutionConfig(), tmp_path / "artifact")
