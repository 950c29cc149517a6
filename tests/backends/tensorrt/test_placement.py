"""What is said of an engine: of the network it was built from, and of its kernels where they can be seen.

The inspector's text is in the form of NVIDIA's documentation; no GPU is needed to read it.
"""

from __future__ import annotations

import json

import pytest

from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt.placement import placement_of_engine
from edgeport.calibration.plan import float_plan, make_plan
from edgeport.contracts import ExecutionConfig, QuantizationPlan, kept_share
from edgeport.contracts.plan import Precision

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
built_only = pytest.mark.skipif(
    not KNOWN.installed or KNOWN.can_run, reason=f"tensorrt: {KNOWN.reason or 'engines run here'}"
)
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP32 = "Row major linear FP32"
FP16 = "Channel major FP16 format where channel % 8 == 0"


def layer(kind, reads, name="conv1 + relu1", weights=None, metadata=""):
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [{"Name": "in", "Dimensions": [1, 8, 8, 8], "Format/Datatype": text} for text in reads],
        "Outputs": [{"Name": "out", "Dimensions": [1, 8, 8, 8], "Format/Datatype": FP32}],
        "Metadata": metadata,
        **({} if weights is None else {"Weights": {"Type": weights, "Count": 576}}),
    }


@pytest.mark.parametrize(
    ("given", "precision", "reason"),
    [
        pytest.param(layer("CaskConvolution", [INT8], weights="Int8"), "int8", "", id="integer convolution"),
        pytest.param(
            layer("CaskConvolution", [INT8], weights="Float"),
            "fp32",
            "reads int8, but its weights are fp32",
            id="unpacked",
        ),
        pytest.param(layer("CaskConvolution", [FP32], weights="Float"), "fp32", "", id="float convolution"),
        pytest.param(layer("gemm", [FP16], weights="Half"), "fp16", "", id="half"),
        pytest.param(layer("CaskPooling", [INT8]), "int8", "", id="pooling"),
        pytest.param(layer("Reformat", [FP32]), "", "", id="a copy computes nothing"),
        pytest.param({"Name": "jit", "LayerType": "kgen"}, "", "does not tell", id="no detail"),
        pytest.param("conv1 + relu1", "", "does not tell", id="built without detail"),
    ],
)
def test_a_kernel_is_integer_where_it_multiplies_integers(given, precision, reason):
    (node,) = placement_of_engine(json.dumps({"Layers": [given]})).nodes
    assert node.precision == precision
    assert reason in node.reason
    assert bool(reason) == bool(node.reason)


def test_kernels_lead_back_to_the_plan():
    named = layer("CaskConvolution", [INT8], "fused", "Int8", "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]")
    plain = layer("CaskConvolution", [FP32], "conv2 + relu2", "Float")
    placement = placement_of_engine(json.dumps({"Layers": [named, plain]}))
    assert [node.origin for node in placement.nodes] == [("conv1", "relu1"), ("conv2", "relu2")]
    nodes = dict.fromkeys(("conv1", "relu1", "conv2"), Precision.INT8)
    assert kept_share(QuantizationPlan(dialect="tensorrt", model_digest="m", nodes=nodes), placement) == 2 / 3


def reasons_of(network, plan, folder):
    placement = BACKEND.placement(BACKEND.compile(network.model, plan, ExecutionConfig(), folder / "artifact"))
    assert (placement.source, placement.ran) == ("parsed network: built, not run", False)
    assert not any(node.precision for node in placement.nodes)
    return {node.name: node.reason for node in placement.nodes}


@built_only
def test_an_engine_that_was_not_run_says_what_its_layers_are_handed(cnn, tmp_path):
    reasons = reasons_of(cnn, make_plan(cnn.model, cnn.calibration, KNOWN.rules), tmp_path)
    handed = "not run here, so its kernel is unknown; the network hands it {}"
    for name in ("stem", "depthwise", "pointwise", "left", "right"):
        assert reasons[name] == handed.format("int8 numbers, dequantized")
    assert reasons["gate"] == handed.format("float32 numbers"), "x * sigmoid(x) is float"


@built_only
def test_a_float_engine_is_handed_floats(cnn, tmp_path):
    assert "float32 numbers" in reasons_of(cnn, float_plan(cnn.model), tmp_path / "fp32")["stem"]
    assert "float16 numbers" in reasons_of(cnn, float_plan(cnn.model, Precision.FP16), tmp_path / "fp16")["stem"]


@built_only
def test_squeeze_and_excitation_is_handed_integers(tmp_path):
    """Global average pooling and both of its convolutions stand between Q/DQ; TensorRT parses and builds it."""
    import numpy as np
    import onnx

    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data.arrays import ArraySamples
    from edgeport.onnx_files import open_onnx

    rng = np.random.default_rng(0)
    nodes = "c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) d = Conv(g, s1) q = Relu(d) e = Conv(q, s2) "
    nodes += "h = Sigmoid(e) m = Mul(r, h) y = Conv(m, v)"
    text = f"g (float[batch,8,8,8] x) => (float[batch,8,n,n] y) {{ {nodes} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    for name, shape in {"w": (16, 8, 3, 3), "s1": (4, 16, 1, 1), "s2": (16, 4, 1, 1), "v": (8, 16, 3, 3)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape).astype("f4"), name))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_{node.op_type}"
    onnx.save(onnx.shape_inference.infer_shapes(proto), tmp_path / "squeeze.onnx")
    model = open_onnx(tmp_path / "squeeze.onnx")
    samples = ArraySamples({"x": rng.standard_normal((8, 8, 8, 8)).astype(np.float32)})
    plan = make_plan(model, collect(model, samples, open_reference), KNOWN.rules)
    artifact = BACKEND.compile(model, plan, ExecutionConfig(), tmp_path / "artifact")
    handed = {node.name: node.reason for node in BACKEND.placement(artifact).nodes}
    for name in ("c_Conv", "g_GlobalAveragePool", "d_Conv", "e_Conv", "y_Conv"):
        assert handed[name].endswith("int8 numbers, dequantized"), name
