"""Products by one positive number, which integers need not compute: attention scales its scores, or what it multiplies.

Between two pairs the integers stay what they are, and the DequantizeLinear behind takes the factor into its scale. That
is exact, where a QLinearMul rounds once more.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.graph import PARTS_KEY, PRECISION_KEY, GraphEdit
from edgeport.contracts import Array, Precision

__all__ = ["fold_scalings"]


def fold_scalings(edit: GraphEdit) -> None:
    """Takes every integer Mul by a constant positive number out of the graph."""
    for node in list(edit.graph):
        if node.op_type != "Mul" or node.metadata_props.get(PRECISION_KEY) != str(Precision.INT8):
            continue
        pairs = [_restored(value) for value in node.inputs]
        for source, factor in (pairs, pairs[::-1]):
            number = _number(factor)
            behind = _pair_behind(node)
            if source is not None and factor is not None and number > 0 and behind is not None:
                _fold(edit, node, source, factor, behind, number)
                break


def _restored(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that gives it."""
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _array(value: ir.Value | None) -> Array | None:
    return np.asarray(value.const_value.numpy()) if value is not None and value.const_value is not None else None


def _number(pair: ir.Node | None) -> float:
    """What the constant behind a pair stands for; 0 where it is none, or several numbers."""
    arrays = [_array(value) for value in pair.inputs[:3]] if pair is not None else []
    if len(arrays) != 3 or any(array is None or array.size != 1 for array in arrays):
        return 0.0
    integer, scale, zero_point = (float(np.asarray(array).reshape(())) for array in arrays)
    return (integer - zero_point) * scale


def _pair_behind(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The QuantizeLinear that alone reads it, and the DequantizeLinear that alone reads that."""
    found = []
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        readers = [use.node for use in node.outputs[0].uses()]
        if len(readers) != 1 or readers[0].op_type != operator or node.outputs[0].is_graph_output():
            return None
        node = readers[0]
        found.append(node)
    return None if node.outputs[0].is_graph_output() else (found[0], found[1])


def _fold(
    edit: GraphEdit, node: ir.Node, source: ir.Node, factor: ir.Node, behind: tuple[ir.Node, ir.Node], number: float
) -> None:
    scale = _array(source.inputs[1])
    rounding = source.inputs[0].producer() if source.inputs[0] is not None else None
    if scale is None or scale.size != 1 or rounding is None or rounding.op_type != "QuantizeLinear":
        return
    scaled = edit.constant(f"{node.name}_scale", np.asarray(scale * np.float32(number), dtype=np.float32))
    restored = edit.node(
        "DequantizeLinear", [source.inputs[0], scaled, source.inputs[2]], f"{node.name}_DequantizeLinear", like=node
    )
    output, old = restored.outputs[0], behind[1].outputs[0]
    output.type, output.shape = old.type, old.shape
    edit.graph.insert_before(node, restored)
    old.replace_all_uses_with(output)
    edit.graph.remove([behind[1], behind[0], node], safe=True)
    for pair in (source, factor):
        if not pair.outputs[0].uses() and not pair.outputs[0].is_graph_output():
            edit.graph.remove(pair, safe=True)
    maker = rounding.inputs[0].producer() if rounding.inputs[0] is not None else None
    if maker is not None:
        maker.metadata_props[PARTS_KEY] = f"{maker.metadata_props.get(PARTS_KEY, maker.name)}\n{node.name}"
