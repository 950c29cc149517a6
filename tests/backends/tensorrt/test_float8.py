"""Floats of 8 bits for TensorRT: the file has them where it multiplies, engines build, and the numbers are right.

No engine runs here. ONNX Runtime has kernels of QuantizeLinear and DequantizeLinear for E4M3, so the file that is built
is run there; the rounding itself is checked against ONNX's reference implementation.
"""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.backends.qdq.quant_params import FLOAT8, activation_parameters, dequantize, quantize
from edgeport.backends.tensorrt import create_backend
from edgeport.backends.tensorrt.backend import write_tensorrt
from edgeport.backends.tensorrt.rules import rules
from edgeport.calibration.mixed_plan import mixed_plan
from edgeport.calibration.plan import float8_plan
from edgeport.contracts import (
    ActivationQuantization,
    ExecutionConfig,
    Mix,
    NodeChoice,
    NodePlacement,
    Placement,
    Precision,
    kept_nodes,
)
from edgeport.errors import ContractError, PlanError, UnsupportedByBackend
from edgeport.onnx_files import open_onnx, read_ir

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
FP8 = Precision.FP8
builds = pytest.mark.skipif(
    not KNOWN.installed or not KNOWN.precisions[FP8].available, reason=f"tensorrt: {KNOWN.precisions[FP8].reason}"
)


@pytest.fixture(scope="module", params=["cnn", "perceptron"])
def network(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def plan(network):
    return float8_plan(network.model, network.calibration, rules())


def test_only_what_multiplies_reads_them_and_nothing_gives_them(network, plan, tmp_path):
    written = read_ir(write_tensorrt(network.model, plan, tmp_path / "written.onnx")).graph
    assert set(plan.nodes.values()) == {FP8}
    assert plan.precision is FP8
    multiplied = [node for node in written if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(multiplied) == len(plan.nodes)
    for node in multiplied:
        for value in node.inputs[:2]:
            assert value.producer().op_type == "DequantizeLinear", node.name
            assert value.producer().inputs[0].dtype.name == "FLOAT8E4M3FN"
    readers = {
        use.node.name for node in written if node.op_type == "DequantizeLinear" for use in node.outputs[0].uses()
    }
    assert readers == set(plan.nodes), "nodes that stay float lose nothing"


def test_numbers_are_close_to_float(network, plan, tmp_path):
    written = write_tensorrt(network.model, plan, tmp_path / "written.onnx")
    with open_reference(written.path) as run:
        found = run(network.feeds)["scores"]
    noise = 10 * np.log10(np.square(network.scores).sum() / np.square(network.scores - found).sum())
    assert 22 < noise < 45, "three bits of mantissa: some 30 dB for each rounding"
    plain = ReferenceEvaluator(onnx.load(written.path)).run(None, network.feeds)[0]
    assert np.abs(plain - found).max() < 0.02 * np.abs(plain).max(), "as the specification has it"


def test_rounding_is_that_of_the_specification():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(size=999) * 10.0 ** rng.integers(-4, 3, 999), [0.0, 448.0, -600.0]])
    numbers = numbers.astype(np.float32)
    spec = ActivationQuantization(dtype="float8e4m3fn", minimum=-30.0, maximum=56.0, symmetric=True)
    with pytest.raises(ContractError, match="whose zero is zero"):
        dataclasses.replace(spec, symmetric=False)
    parameters = activation_parameters(spec)
    assert parameters.scale == np.float32(56 / 448)
    text = (
        '<ir_version: 10, opset_import: ["": 21]> g (float[n] x, float s, float8e4m3fn z) => (float8e4m3fn[n] y) '
        "{ y = QuantizeLinear(x, s, z) }"
    )
    evaluator = ReferenceEvaluator(onnx.parser.parse_model(text))
    (wanted,) = evaluator.run(None, {"x": numbers, "s": parameters.scale, "z": parameters.zero_point})
    found = quantize(numbers, parameters)
    assert found.dtype == FLOAT8
    np.testing.assert_array_equal(
        found.view(np.uint8), np.asarray(wanted).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    )
    assert dequantize(found, parameters).max() == 56.0, "what lies beyond is the largest"


@builds
def test_an_engine_is_built_for_gpus_that_have_them(network, plan, tmp_path):
    artifact = BACKEND.compile(network.model, plan, ExecutionConfig(batch=2), tmp_path / "artifact")
    assert artifact.settings["engine"]["compute_capability"] == "8.9" or KNOWN.devices
    handed = {node.name: node.reason for node in BACKEND.placement(artifact).nodes}
    if not KNOWN.can_run:
        assert all(handed[name].endswith("float8 numbers, dequantized") for name in plan.nodes)
    if KNOWN.devices:
        return
    with pytest.raises(UnsupportedByBackend, match=r"compute capability 8\.6; found that such GPUs do not") as caught:
        BACKEND.compile(
            network.model, plan, ExecutionConfig(runtime_device="GPU:capabilities=8.6+8.9"), tmp_path / "old"
        )
    assert "capabilities=8.9" in caught.value.fix


def test_older_operators_and_two_forms_of_a_tensor_are_refused(network, plan, tmp_path):
    both = Mix(nodes=(NodeChoice(what=next(iter(plan.nodes)), precision=Precision.INT8),))
    with pytest.raises(PlanError, match="one range and one type"):
        mixed_plan(network.model, rules(), FP8, both, network.calibration)
    proto = onnx.load(network.model.path)
    if any(node.op_type == "Gelu" for node in proto.graph.node):
        return  # itself of opset 20
    proto.opset_import[0].version = 18
    onnx.save(proto, tmp_path / "old.onnx")
    old = open_onnx(tmp_path / "old.onnx")
    with pytest.raises(PlanError, match="opset 18; QuantizeLinear gives them from opset 19 on"):
        write_tensorrt(old, dataclasses.replace(plan, model_digest=old.digest), tmp_path / "written.onnx")


def test_a_kernel_of_int8_is_not_what_was_planned(network, plan):
    name = next(iter(plan.nodes))

    def ran(precision):
        kernel = NodePlacement(name=name, operator="gemm", device="GPU", precision=precision, origin=(name,))
        return kept_nodes(plan, Placement(nodes=(kernel,), source="test"))

    assert ran("fp8").kept == (name,)
    assert ran("int8").lost == (name,)
