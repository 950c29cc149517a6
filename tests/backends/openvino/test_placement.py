"""What really ran, read back from OpenVINO, for each way of compiling."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeport.backends.openvino import create_backend
from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan
from edgeport.contracts import ExecutionConfig, Placement, Precision

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
pytestmark = pytest.mark.skipif(not KNOWN.can_run, reason=f"openvino: {KNOWN.reason}")
ONE_THREAD = ExecutionConfig(threads=1)


def kernels(placement: Placement, *operators: str) -> dict[str, str]:
    """First ONNX node of each kernel of these types to what it computed in."""
    return {node.origin[0]: node.precision for node in placement.nodes if node.operator in operators}


def compile_and_place(network, plan, folder):
    artifact = BACKEND.compile(network.model, plan, ONE_THREAD, folder / "artifact")
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
            assert (node.precision == "int8") != ("planned in int8" in node.reason)
