from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.errors import UnsupportedByBackend
from edgeport.onnx_files import is_quantized, quantization_evidence, read_ir, refuse_custom_operators


def _add(small_onnx: onnx.ModelProto, operator: str, domain: str = "") -> None:
    small_onnx.graph.node.append(helper.make_node(operator, ["y"], ["extra"], name="it", domain=domain))
    if domain:
        small_onnx.opset_import.append(helper.make_opsetid(domain, 1))


def _custom_domains(graph):
    try:
        refuse_custom_operators(graph, asked="run it", runtime="a runtime", known=())
    except UnsupportedByBackend as error:
        return error.details["domains"]
    return []


def test_a_float_model_is_not_quantized(small_onnx, save_onnx):
    graph = read_ir(save_onnx(small_onnx))
    assert not is_quantized(graph)
    assert quantization_evidence(graph) == []
    assert _custom_domains(graph) == []


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("QuantizeLinear", ""),
        ("DequantizeLinear", ""),
        ("DynamicQuantizeLinear", ""),
        ("QLinearConv", ""),
        ("QLinearMatMul", ""),
        ("ConvInteger", ""),
        ("MatMulInteger", ""),
        ("QLinearAdd", "com.microsoft"),
        ("QGemm", "com.microsoft"),
        ("QAttention", "com.microsoft"),
        ("DynamicQuantizeMatMul", "com.microsoft"),
        ("MatMulIntegerToFloat", "com.microsoft"),
        ("MatMulNBits", "com.microsoft"),
        ("GatherBlockQuantized", "com.microsoft"),
        ("FakeQuantize", "org.openvinotoolkit"),
        ("TRT_FP8QuantizeLinear", "trt"),
    ],
)
def test_every_way_to_be_quantized_is_seen(small_onnx, save_onnx, operator, domain):
    _add(small_onnx, operator, domain)
    graph = read_ir(save_onnx(small_onnx))
    assert is_quantized(graph)
    assert quantization_evidence(graph) == [f"{operator} 'it'"]
    assert _custom_domains(graph) == ([domain] if domain else [])


@pytest.mark.parametrize("operator", ["Relu", "QuickGelu", "Einsum", "MatMul", "Round"])
def test_other_operators_are_no_evidence(small_onnx, save_onnx, operator):
    _add(small_onnx, operator, "com.microsoft" if operator == "QuickGelu" else "")
    assert not is_quantized(read_ir(save_onnx(small_onnx)))


def test_subgraphs_are_searched(small_onnx, save_onnx):
    branch = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["y", "y"], ["d"], name="deep")],
        "branch",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, None)],
    )
    condition = helper.make_node("Constant", [], ["yes"], value_int=1)
    small_onnx.graph.node.extend(
        [condition, helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)]
    )
    assert "DequantizeLinear 'deep'" in quantization_evidence(read_ir(save_onnx(small_onnx)))


def test_functions_are_searched_and_are_no_custom_domain(small_onnx, save_onnx):
    body = [helper.make_node("QuantizeLinear", ["a", "a"], ["b"], name="inside")]
    opsets = [helper.make_opsetid("", 20)]
    small_onnx.functions.append(helper.make_function("local", "wrap", ["a"], ["b"], body, opsets))
    _add(small_onnx, "wrap", "local")
    graph = read_ir(save_onnx(small_onnx))
    assert quantization_evidence(graph) == ["QuantizeLinear 'inside'"]
    assert _custom_domains(graph) == []
