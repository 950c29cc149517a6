"""Whether a model is quantized already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeport.errors import AlreadyQuantizedError

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["integer_nodes", "is_quantized", "quantization_evidence", "refuse_quantized"]

_SHOWN = 3

# ONNX operators: QuantizeLinear and DequantizeLinear (hence the missing letter), QLinearConv and QLinearMatMul,
# ConvInteger and MatMulInteger. The rest are contrib operators of ONNX Runtime (docs/ContribOperators.md) and the fake
# quantizers of OpenVINO, TensorRT and Quark.
_ANYWHERE = ("uantizeLinear", "QLinear", "MatMulInteger", "ConvInteger", "FakeQuantize", "FakeConvert")
_AT_START = (
    "DequantizeBFP",
    "DequantizeWithOrder",
    "DynamicQuantize",
    "GatherBlockQuantized",
    "MatMulBnb4",
    "MatMulFpQ4",
    "MatMulNBits",
    "MulInteger",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QMoE",
    "QOrdered",
    "QuantizeBFP",
    "QuantizeWithOrder",
    "ReduceSumInteger",
)

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantization_evidence(model: onnx_ir.Model) -> list[str]:
    """Every node that computes in integers or prepares for it, as `QLinearConv 'name'`; subgraphs and functions too."""
    return [f"{node.op_type} {node.name!r}" for node in _nodes(model) if _is_quantizing(node.op_type)]


def is_quantized(model: onnx_ir.Model) -> bool:
    """Whether there is any such node; quantizing it again would compound the error."""
    return any(_is_quantizing(node.op_type) for node in _nodes(model))


def integer_nodes(model: onnx_ir.Model) -> list[str]:
    """Names of the nodes that a quantized file has in integers, in its order; of the main graph.

    Those are products whose first two inputs were dequantized, other nodes that stand between a DequantizeLinear and
    QuantizeLinears alone, and integer operators.
    """
    return [node.name for node in model.graph if node.name and _is_integer(node)]


def _is_integer(node: onnx_ir.Node) -> bool:
    if "uantizeLinear" in node.op_type:
        return False
    if node.op_type.startswith(("QLinear", "QGemm")) or node.op_type in ("MatMulInteger", "ConvInteger"):
        return True
    if node.op_type in _PRODUCTS:
        return len(node.inputs) > 1 and all(_is_dequantized(value) for value in node.inputs[:2])
    readers = [use.node.op_type for value in node.outputs for use in value.uses()]
    to_integers = bool(readers) and all(reader == "QuantizeLinear" for reader in readers)
    return to_integers and any(_is_dequantized(value) for value in node.inputs)


def _is_dequantized(value: onnx_ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"


def refuse_quantized(model: onnx_ir.Model, asked: str) -> None:
    """Raises where there is any such node.

    Args:
        model: That float work is asked of.
        asked: What for, as the error says it ("calibrate net.onnx").

    Raises:
        AlreadyQuantizedError: It carries Q/DQ pairs or integer operators.

    """
    evidence = quantization_evidence(model)
    if not evidence:
        return
    others = f" and {len(evidence) - _SHOWN} more" if len(evidence) > _SHOWN else ""
    raise AlreadyQuantizedError(
        asked=asked,
        found=f"a model that is quantized already: {', '.join(evidence[:_SHOWN])}{others}",
        fix="give the float model that it was made from; `edgeport bench` times this one as it is",
        details={"nodes": len(evidence)},
    )


def _is_quantizing(operator: str) -> bool:
    return any(part in operator for part in _ANYWHERE) or operator.startswith(_AT_START)


def _nodes(model: onnx_ir.Model) -> Iterator[onnx_ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
