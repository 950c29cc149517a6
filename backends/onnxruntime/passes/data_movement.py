"""Moves that ONNX Runtime has an integer kernel for, but leaves in float between a pair before and a pair behind."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit
from edgeport.contracts import Array, Precision

__all__ = ["pad_integers"]


def pad_integers(edit: GraphEdit) -> None:
    """Puts every integer Pad with a constant border between the QuantizeLinear and DequantizeLinear of its input.

    The pair behind it has the same scale and zero point, so it goes: integers are padded with the border's integer.
    """
    for node in list(edit.graph):
        if node.op_type != "Pad" or node.metadata_props.get(PRECISION_KEY) != str(Precision.INT8):
            continue
        before, after = _producer(node), _reader(node)
        border = _border(edit, node)
        if before is not None and after is not None and border is not None and _same(before, after):
            _move(edit, node, before, after, border)


def _producer(node: ir.Node) -> ir.Node | None:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _reader(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that alone reads it."""
    readers = [use.node for use in node.outputs[0].uses()]
    alone = len(readers) == 1 and not node.outputs[0].is_graph_output() and readers[0].op_type == "QuantizeLinear"
    return readers[0] if alone else None


def _border(edit: GraphEdit, node: ir.Node) -> float | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0.0
    array = _array(value) if edit.is_constant(value) else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _same(before: ir.Node, after: ir.Node) -> bool:
    """Both pairs have one scale and zero point."""
    numbers = [[_array(value) for value in node.inputs[1:3]] for node in (before, after)]
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in zip(*numbers, strict=True))


def _array(value: ir.Value | None) -> Array | None:
    return np.asarray(value.const_value.numpy()) if value is not None and value.const_value is not None else None


def _move(edit: GraphEdit, node: ir.Node, before: ir.Node, after: ir.Node, border: float) -> None:
    scale, zero_point = (_array(value) for value in before.inputs[1:3])
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
    if not before.outputs[0].uses() and not before.outputs[0].is_graph_output():
        edit.graph.remove(before, safe=True)
