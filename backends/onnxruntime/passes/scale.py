"""Products by one positive number, which integers need not compute: attention scales its scores, or what it multiplies.

Between two pairs the integers stay what they are, and the DequantizeLinear behind takes the factor into its scale. That
is exact, where a QLinearMul rounds once more.
"""

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
from edgeport.backends.qdq.graph import PARTS_KEY, GraphEdit

__all__ = ["fold_scalings"]


def fold_scalings(edit: GraphEdit) -> None:
    """Takes every integer Mul by a constant positive number out of the graph."""
    for node in integer_nodes(edit.graph, "Mul"):
        pairs = [dequantizer(value) for value in node.inputs]
        for source, factor in (pairs, pairs[::-1]):
            number = _number(factor)
            behind = _pair_behind(node)
            if source is not None and factor is not None and number > 0 and behind is not None:
                _fold(edit, node, source, factor, behind, number)
                break


def _number(pair: ir.Node | None) -> float:
    """What the constant behind a pair stands for; 0 where it is none, or several numbers."""
    arrays = [constant(value) for value in pair.inputs[:3]] if pair is not None else []
    if len(arrays) != 3 or any(array is None or array.size != 1 for array in arrays):
        return 0.0
    integer, scale, zero_point = (float(np.asarray(array).reshape(())) for array in arrays)
    return (integer - zero_point) * scale


def _pair_behind(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The QuantizeLinear that alone reads it, and the DequantizeLinear that alone reads that."""
    rounding = sole_reader(node, "QuantizeLinear")
    restored = sole_reader(rounding, "DequantizeLinear") if rounding is not None else None
    if rounding is None or restored is None or restored.outputs[0].is_graph_output():
        return None
    return rounding, restored


def _fold(
    edit: GraphEdit, node: ir.Node, source: ir.Node, factor: ir.Node, behind: tuple[ir.Node, ir.Node], number: float
) -> None:
    scale = constant(source.inputs[1])
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
    remove_unused(edit, source, factor)
    maker = rounding.inputs[0].producer() if rounding.inputs[0] is not None else None
    if maker is not None:
        maker.metadata_props[PARTS_KEY] = f"{maker.metadata_props.get(PARTS_KEY, maker.name)}\n{node.name}"
