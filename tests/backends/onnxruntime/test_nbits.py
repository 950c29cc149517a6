"""Integer weights alone on ONNX Runtime: its own operators, what is left of them when optimised, exact numbers."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.backends.onnxruntime import create_backend
from edgeport.backends.onnxruntime.kernels import missing_int16, missing_weights, rounds_activations, takes_integers
from edgeport.backends.onnxruntime.nbits import write_nbits
from edgeport.backends.onnxruntime.rules import x86_rules
from edgeport.backends.qdq.write import quantize_ir
from edgeport.calibration.plan import float_plan
from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import (
    ExecutionConfig,
    Precision,
    QuantizationPlan,
    WeightQuantization,
    dump_json,
    kept_nodes,
    load_json,
)
from edgeport.errors import PlanError, UnsupportedByBackend
from edgeport.onnx_files import read_ir

BACKEND = create_backend()
KNOWN = BACKEND.capabilities()
FORMS = tuple(one for one in Precision if one.weight_form is not None)
ONE_THREAD = ExecutionConfig(threads=1)


def compiled(stored, precision, folder):
    plan = weight_plan(stored.model, KNOWN.rules, precision)
    return plan, BACKEND.compile(stored.model, plan, ONE_THREAD, folder / "artifact")


def graph_of(bench, nodes, constants, shape, outputs):
    return read_ir(bench.model(nodes, constants, shape, outputs))


def outputs_of(artifact, feeds):
    session = BACKEND.open(artifact)
    call = session.bind(feeds)
    call.run()
    found = call.outputs()["y"]
    session.close()
    return found


def outputs_with_float_activations(artifact, feeds):
    """The very file, but for its level of accuracy."""
    import onnxruntime as ort

    proto = onnx.load(artifact.folder / artifact.entry)
    for attribute in itertools.chain.from_iterable(node.attribute for node in proto.graph.node):
        if attribute.name == "accuracy_level":
            attribute.i = 1
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))[0]


@pytest.mark.parametrize("precision", FORMS, ids=str)
@pytest.mark.parametrize("summed", [64, 70], ids=["whole blocks", "a part of a block"])
def test_numbers_are_those_of_the_rounded_weights(precision, summed, stored_weights, tmp_path):
    stored = stored_weights.make_stored(tmp_path, summed=summed, hidden=33, alpha=0.5, beta=2.0)
    plan, artifact = compiled(stored, precision, tmp_path)
    assert set(plan.nodes) == {"embed", "hidden", "head"}
    expected = stored.outputs(plan)
    np.testing.assert_allclose(
        outputs_with_float_activations(artifact, stored.feeds), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    # What ships rounds activations to int8 in blocks, where the CPU has a kernel for that.
    assert stored_weights.sqnr_db(expected, outputs_of(artifact, stored.feeds)) > 35


@pytest.mark.parametrize("precision", FORMS, ids=str)
def test_the_runtime_keeps_the_fused_operators(precision, stored_weights, tmp_path):
    stored = stored_weights.make_stored(tmp_path, summed=64, hidden=64)
    plan, artifact = compiled(stored, precision, tmp_path)
    placement = BACKEND.placement(artifact)
    bits = precision.weight_form.stored
    ran = {node.origin[0]: (node.operator, node.weights) for node in placement.nodes if node.weights}
    product = ("MatMulNBits", bits)
    assert ran == {"embed": ("GatherBlockQuantized", bits), "hidden": product, "head": product}
    assert not [node for node in placement.nodes if node.operator in ("DequantizeLinear", "MatMul", "Gemm", "Gather")]
    assert kept_nodes(plan, placement).kept == ("embed", "hidden", "head")
    assert rounds_activations(int(bits[3:]))
    assert f"int8 with {bits} weights 2/4" in placement.summary()


def test_the_file_shrinks_with_the_width(stored_weights, tmp_path):
    stored = stored_weights.make_stored(tmp_path, summed=256, hidden=128)
    sizes = {}
    for precision in (Precision.INT8_WEIGHTS, Precision.INT4_WEIGHTS_128):
        (tmp_path / precision).mkdir()
        sizes[precision] = compiled(stored, precision, tmp_path / precision)[1].size_bytes
    whole = BACKEND.compile(stored.model, float_plan(stored.model), ONE_THREAD, tmp_path / "float").size_bytes
    assert sizes[Precision.INT8_WEIGHTS] < 0.35 * whole
    assert sizes[Precision.INT4_WEIGHTS_128] < 0.2 * whole


def test_equal_plans_give_equal_bytes_through_json(stored_weights, tmp_path):
    stored = stored_weights.make_stored(tmp_path)
    plan, first = compiled(stored, Precision.UINT4_WEIGHTS_32, tmp_path)
    again = load_json(QuantizationPlan, dump_json(plan))
    assert again == plan
    assert BACKEND.compile(stored.model, again, ONE_THREAD, tmp_path / "again").digest == first.digest


def test_blocks_in_a_dequantize_linear_become_the_same_operator(tmp_path):
    """Why the operator is written out: the runtime makes it of the standard form, but not behind a transposed Gemm."""
    import onnxruntime as ort

    def optimised(operator: str, **attributes: int) -> list[str]:
        integers = helper.make_tensor("w", TensorProto.INT4, [64, 64], np.zeros(64 * 64, dtype=int))
        axis = attributes.get("transB", 0)
        scale = numpy_helper.from_array(np.ones((64, 2) if axis else (2, 64), dtype=np.float32), "s")
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=axis, block_size=32),
            helper.make_node(operator, ["x", "f"], ["y"], **attributes),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
            [integers, scale],
        )
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]

    assert optimised("MatMul") == ["MatMulNBits"]
    assert optimised("Gemm", transB=1) == ["DequantizeLinear", "Gemm"]


def test_readers_of_one_weight_share_its_constants(bench):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="two"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="three"),
    ]
    model = graph_of(bench, nodes, {"w": np.eye(32, dtype=np.float32)}, ["n", 32], ["y"])
    plan = QuantizationPlan(
        dialect="onnxruntime-x86",
        model_digest="",
        nodes={"one": Precision.INT4_WEIGHTS_32, "two": Precision.INT4_WEIGHTS_32},
        weights={"w": WeightQuantization(dtype="int4", axis=0, block_size=32)},
    )
    quantize_ir(model, plan, x86_rules(vnni=True), own_weights=write_nbits)
    one, two, three = model.graph
    assert [node.op_type for node in (one, two, three)] == ["MatMulNBits", "MatMulNBits", "MatMul"]
    assert [value.name for value in one.inputs[1:]] == [value.name for value in two.inputs[1:]]
    assert three.inputs[1].name == "w"  # the one that the plan leaves in float
    assert set(model.graph.initializers) == {"w", "w_quantized", "w_scale"}
    assert model.opset_imports == {"": 20, "com.microsoft": 1}


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        pytest.param({"y": Precision.INT8_WEIGHTS}, "'x' in the place of the weight, which is no constant", id="input"),
        pytest.param({"r": Precision.INT8_WEIGHTS}, "does this for MatMul, Gemm, Gather only", id="operator"),
        pytest.param({"z": Precision.INT8_WEIGHTS}, "no such node", id="unknown"),
    ],
)
def test_a_node_that_has_no_weight_is_refused_by_name(nodes, says, bench):
    model = graph_of(
        bench,
        [helper.make_node("Relu", ["x"], ["r"], name="r"), helper.make_node("MatMul", ["r", "x"], ["y"], name="y")],
        {},
        [4, 4],
        ["y"],
    )
    plan = QuantizationPlan(dialect="onnxruntime-x86", model_digest="", nodes=nodes)
    with pytest.raises(PlanError, match=says) as caught:
        quantize_ir(model, plan, x86_rules(vnni=True), own_weights=write_nbits)
    assert next(iter(nodes)) in caught.value.asked


def test_three_axes_are_refused(bench):
    model = graph_of(
        bench,
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")],
        {"w": np.ones((2, 4, 4), dtype=np.float32)},
        [2, 4, 4],
        ["y"],
    )
    plan = QuantizationPlan(
        dialect="onnxruntime-x86",
        model_digest="",
        nodes={"y": Precision.INT8_WEIGHTS},
        weights={"w": WeightQuantization(axis=2)},
    )
    with pytest.raises(PlanError, match=r"shape \[2, 4, 4\]; ONNX Runtime's operators take two axes"):
        quantize_ir(model, plan, x86_rules(vnni=True), own_weights=write_nbits)


def test_int16_is_refused_with_what_the_runtime_made_of_it(stored_weights, tmp_path):
    """The same question answers yes for uint8, so it can."""
    assert {operator: takes_integers(operator, "uint8") for operator in ("MatMul", "Conv", "Add")} == {
        "MatMul": True,
        "Conv": True,
        "Add": True,
    }
    support = KNOWN.precisions[Precision.INT16]
    assert not support.available
    assert support.reason == missing_int16()
    assert "keeps each in float between a DequantizeLinear and a QuantizeLinear" in support.reason
    stored = stored_weights.make_stored(tmp_path)
    plan = dataclasses.replace(float_plan(stored.model, dialect="onnxruntime-x86"), nodes={"hidden": Precision.INT16})
    with pytest.raises(UnsupportedByBackend, match="computes no MatMul, Conv or Add in int16"):
        BACKEND.compile(stored.model, plan, ONE_THREAD, tmp_path / "int16")


def test_a_width_that_the_runtime_has_not_is_told():
    assert [missing_weights(bits) for bits in (8, 4)] == ["", ""]
    assert "has no MatMulNBits and no GatherBlockQuantized of 3 bits" in missing_weights(3)
