"""What really ran, read back from OpenVINO, for each way of compiling."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeport.backends.openvino import create_backend
from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan
from edgeport.contracts import ExecutionConfig, Placement, Precision, kept_share

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
pytestmark = pytest.mark.skipif(not KNOWN.can_run, reason=f"openvino: {KNOWN.reason}")
ONE_THREAD = ExecutionConfig(threads=1)


def kernels(placement: Placement, *operators: str) -> dict[str, str]:
    """First ONNX node of each kernel of these types to what it computed in."""
    return {node.origin[0]: node.precision for node in placement.nodes if node.operator in operators}


def compile_and_place(network, plan, folder):
    return compile_and_place_model(network.model, plan, folder)


def compile_and_place_model(model, plan, folder):
    artifact = BACKEND.compile(model, plan, ONE_THREAD, folder / "artifact")
    return artifact, BACKEND.placement(artifact)


@pytest.fixture(scope="module")
def int8(cnn, tmp_path_factory):
    plan = make_plan(cnn.model, cnn.calibration, KNOWN.rules)
    return compile_and_place(cnn, plan, tmp_path_factory.mktemp("int8"))


def test_every_convolution_and_product_is_integer(int8):
    found = kernels(int8[1], "Convolution", "FullyConnected")
    assert found == dict.fromkeys(("stem", "depthwise", "pointwise", "left", "right", "head"), "int8")


def test_residual_and_activation_are_in_the_convolution(int8):
    (kernel,) = [node for node in int8[1].nodes if "pointwise" in node.origin]
    assert "residual" in kernel.origin
    assert not [node for node in int8[1].nodes if node.operator == "Eltwise"]


def test_silu_is_in_the_convolution(int8):
    """A pair in front of it would make it a kernel of its own."""
    (kernel,) = [node for node in int8[1].nodes if "right" in node.origin]
    assert "silu" in kernel.origin


def test_pooling_stays_integer(int8):
    assert kernels(int8[1], "Pooling") == {"maxpool": "int8"}


def test_copies_and_quantizations_compute_nothing(int8):
    assert {node.precision for node in int8[1].nodes if node.operator in ("Reorder", "Reshape", "Input", "Output")} == {
        ""
    }
    assert not [node for node in int8[1].nodes if node.precision and not node.origin]


def test_int8_is_close_to_float(int8, cnn):
    session = BACKEND.open(int8[0])
    call = session.bind(cnn.feeds)
    call.run()
    error = call.outputs()["scores"] - cnn.scores
    session.close()
    assert 10 * np.log10(np.square(cnn.scores).sum() / np.square(error).sum()) > 25


def test_weights_are_stored_as_int8(int8, cnn, tmp_path):
    plain, _ = compile_and_place(cnn, float_plan(cnn.model), tmp_path)
    size = {a.digest: (a.folder / "model.bin").stat().st_size for a in (int8[0], plain)}
    assert size[int8[0].digest] < 0.5 * size[plain.digest]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16], ids=str)
def test_float_runs_in_the_float_that_was_asked(precision, cnn, tmp_path):
    """Without a hint OpenVINO takes bfloat16 for float32 where the processor has it."""
    if not KNOWN.precisions[precision].available:
        pytest.skip(KNOWN.precisions[precision].reason)
    _, placement = compile_and_place(cnn, float_plan(cnn.model, precision), tmp_path)
    found = kernels(placement, "Convolution", "FullyConnected")
    assert len(found) == 6
    assert set(found.values()) == {str(precision)}


def test_bias_and_gelu_are_in_the_product(perceptron, tmp_path):
    plan = make_plan(perceptron.model, perceptron.calibration, KNOWN.rules)
    _, placement = compile_and_place(perceptron, plan, tmp_path)
    assert kernels(placement, "FullyConnected") == {"up": "int8", "down": "int8"}
    (kernel,) = [node for node in placement.nodes if "up" in node.origin and node.precision]
    assert {"up_bias", "gelu"} <= set(kernel.origin)


@pytest.fixture
def dynamic(perceptron, tmp_path):
    if not KNOWN.precisions[Precision.INT8_DYNAMIC].available:
        pytest.skip(KNOWN.precisions[Precision.INT8_DYNAMIC].reason)
    return compile_and_place(perceptron, dynamic_plan(perceptron.model, KNOWN.rules), tmp_path)


def test_dynamic_int8_is_integer_because_its_numbers_say_so(dynamic):
    products = [node for node in dynamic[1].nodes if node.operator == "FullyConnected"]
    assert [node.precision for node in products] == ["int8", "int8"]
    assert all("in groups of 32" in node.reason for node in products)


def test_packed_weights_alone_are_not_called_integer(dynamic):
    """The runtime calls such kernels i8; with groups of 0 they multiply floats."""
    artifact = dynamic[0]
    settings = {**artifact.settings, "config": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}}
    from edgeport.backends.artifacts import artifact_digest

    digest = artifact_digest(artifact.folder, settings)
    placement = BACKEND.placement(dataclasses.replace(artifact, settings=settings, digest=digest))
    products = [node for node in placement.nodes if node.operator == "FullyConnected"]
    assert [node.precision for node in products] == ["fp32", "fp32"]
    assert all("stored as int8" in node.reason for node in products)


def test_what_was_planned_and_did_not_happen_has_a_reason(cnn, tmp_path):
    """At batch 1 OpenVINO unpacks the weights of a product behind a Flatten."""
    if not KNOWN.precisions[Precision.INT8_DYNAMIC].available:
        pytest.skip(KNOWN.precisions[Precision.INT8_DYNAMIC].reason)
    _, placement = compile_and_place(cnn, dynamic_plan(cnn.model, KNOWN.rules), tmp_path)
    for node in placement.nodes:
        if node.origin and node.origin[0] == "head":
            assert node.reason
            assert (node.precision == "int8") != ("planned in integers" in node.reason)


MASKS = {
    "where": "b = Where(m, a, zero)",
    "and, or": "p = Not(m) q = And(p, n) o = Or(q, m) b = Where(o, a, zero)",
    "where of masks": "g = Less(x, zero) q = Where(m, n, g) b = Where(q, a, zero)",
    "multiplied": "c = Cast<to=1>(m) b = Mul(c, a)",
}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16], ids=str)
@pytest.mark.parametrize("nodes", MASKS.values(), ids=MASKS)
def test_masks_of_a_float_model_are_not_called_integer(nodes, precision, tmp_path):
    """OpenVINO keeps booleans in bytes, and lists a kernel by the type of its first input."""
    import onnx

    from edgeport.onnx_files import open_onnx

    if not KNOWN.precisions[precision].available:
        pytest.skip(KNOWN.precisions[precision].reason)
    inputs = "float[batch,8,16] x, bool[batch,8,16] m, bool[batch,8,16] n"
    text = f"({inputs}) => (float[batch,8,16] y) {{ a = MatMul(x, w) {nodes} y = MatMul(b, w) }}"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {text}')
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    for name, array in (("w", weight), ("zero", np.float32(0))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, tmp_path / "masked.onnx")
    model = open_onnx(tmp_path / "masked.onnx")
    artifact = BACKEND.compile(model, float_plan(model, precision), ONE_THREAD, tmp_path / "artifact")
    placement = BACKEND.placement(artifact)
    assert placement.share("int8") == 0.0
    assert placement.share(str(precision)) == 1.0


def planned(text, arrays, shape, folder):
    """A model from ONNX text, and the plan of 16 random samples."""
    import onnx

    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data.arrays import ArraySamples
    from edgeport.onnx_files import open_onnx

    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_{node.op_type}"
    onnx.save(onnx.shape_inference.infer_shapes(proto), folder / "planned.onnx")
    model = open_onnx(folder / "planned.onnx")
    samples = ArraySamples({"x": random(16, *shape)})
    return model, make_plan(model, collect(model, samples, open_reference), KNOWN.rules)


def random(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def test_products_that_became_one_kernel_are_integer(tmp_path):
    """Small products are fused into one Subgraph that is listed as float; its weights enter as int8."""
    text = "(float[batch,32] x) => (float[batch,10] y) { a = Gemm(x, w) r = Relu(a) y = Gemm(r, v) }"
    model, plan = planned(text, {"w": random(32, 64), "v": random(64, 10)}, (32,), tmp_path)
    integer = BACKEND.placement(BACKEND.compile(model, plan, ExecutionConfig(threads=1, batch=8), tmp_path / "int8"))
    plain = BACKEND.placement(
        BACKEND.compile(model, float_plan(model), ExecutionConfig(threads=1, batch=8), tmp_path / "fp32")
    )
    assert kept_share(plan, integer) == 1.0
    assert plain.share("int8") == 0.0


def test_the_sum_before_a_normalization_is_float(tmp_path):
    """Nothing brings its integers back to float then."""
    text = """(float[batch,16,32] x) => (float[batch,16,32] y) {
        a = MatMul(x, w) s = Add(a, x) n = LayerNormalization(s, g) b = MatMul(n, w) t = Add(b, s)
        m = LayerNormalization(t, g) y = MatMul(m, w) }"""
    model, plan = planned(text, {"w": random(32, 32), "g": random(32)}, (16, 32), tmp_path)
    assert not {"s_Add", "t_Add"} & plan.nodes.keys()
    assert kept_share(plan, BACKEND.placement(BACKEND.compile(model, plan, ONE_THREAD, tmp_path / "int8"))) == 1.0


def test_shuffled_channels_stay_integers(tmp_path):
    """As ShuffleNet V2 halves them."""
    text = """(float[batch,8,6,6] x) => (float[batch,8,6,6] y) {
        a = Conv(x, w) r = Reshape(a, pairs) t = Transpose<perm=[1,0,2]>(r) q = Reshape(t, halves)
        f = Gather<axis=0>(q, first) s = Gather<axis=0>(q, second) b = Conv(s, v) y = Concat<axis=1>(f, b) }"""
    arrays = {"w": random(8, 8, 1, 1), "v": random(4, 4, 1, 1)}
    arrays |= {"pairs": np.int64([4, 2, 36]), "halves": np.int64([2, 1, 4, 6, 6])}
    arrays |= {"first": np.int64(0), "second": np.int64(1)}
    text = text.replace("batch", "1")
    model, plan = planned(text, arrays, (8, 6, 6), tmp_path)
    _, placement = compile_and_place_model(model, plan, tmp_path)
    assert {"f_Gather", "s_Gather", "y_Concat"} <= plan.nodes.keys()
    assert [node.precision for node in placement.nodes if "y_Concat" in node.origin] == ["int8"]
    assert not [node for node in placement.nodes if node.operator == "FakeQuantize"]
