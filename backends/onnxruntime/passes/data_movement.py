"""Moves that ONNX Runtime has an integer kernel for, but leaves in float between a pair before and a pair behind."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.onnxruntime.passes.patterns import (
    constant,
    dequantizer,
    integer_nodes,
    remove_unused,
    sole_reader,
)
from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit
from edgeport.contracts import Precision

__all__ = ["pad_integers"]


def pad_integers(edit: GraphEdit) -> None:
    """Puts every integer Pad with a constant border between the QuantizeLinear and DequantizeLinear of its input.

    The pair behind it has the same scale and zero point, so it goes: integers are padded with the border's integer.
    """
    for node in integer_nodes(edit.graph, "Pad"):
        before, after = dequantizer(node.inputs[0]), sole_reader(node, "QuantizeLinear")
        border = _border(edit, node)
        if before is not None and after is not None and border is not None and _same(before, after):
            _move(edit, node, before, after, border)


def _border(edit: GraphEdit, node: ir.Node) -> float | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0.0
    array = constant(value) if edit.is_constant(value) else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _same(before: ir.Node, after: ir.Node) -> bool:
    """Both pairs have one scale and zero point."""
    numbers = [[constant(value) for value in node.inputs[1:3]] for node in (before, after)]
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in zip(*numbers, strict=True))


def _move(edit: GraphEdit, node: ir.Node, before: ir.Node, after: ir.Node, border: float) -> None:
    scale, zero_point = (constant(value) for value in before.inputs[1:3])
    if scale is None or zero_point is None:
        return
    limits = np.iinfo(zero_point.dtype)
    integer = np.clip(np.rint(border / scale) + zero_point.astype(np.int64), limits.min, limits.max)
    filling = edit.constant(f"{node.name}_border", integer.astype(zero_point.dtype))
    inputs = [before.inputs[0], node.inputs[1], filling, *node.inputs[3:]]
    padded = edit.node("Pad", inputs, f"{node.name}_integers", like=node, attributes=list(node.attributes.values()))
    padded.metadata_props[PRECISION_KEY] = str(Precision.INT8)
    edit.graph.insert_before(node, padded)
    after.outputs[0].replace_all_uses_with(padded.outputs[0])
    edit.graph.remove([after, node], safe=True)
    padded.name, node.name = node.name, padded.name
    remove_unused(edit, before)
