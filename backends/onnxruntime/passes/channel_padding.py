"""A convolution over an image's few channels, with empty ones beside them.

On x86 ONNX Runtime's kernel for uint8 activations and symmetric int8 weights takes channels by fours. Another number
of them is copied together pixel by pixel before it is multiplied, which takes longer than the product. A fourth channel
of zeros, and zeros among the weights, give the same integers in half the time: 3 x 3 with stride 2 from 3 channels of
224 x 224 to 32 on one thread took 242 us, and takes 122 and 5 for the channel. Patches of 16 x 16 lose by it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.onnxruntime.passes.patterns import constant, dequantizer, integer_nodes, remove_unused
from edgeport.backends.qdq.graph import GraphEdit
from edgeport.contracts import Array

__all__ = ["fill_channels"]

_CHANNELS = 4
_LARGEST_KERNEL = 49
"""Weights per channel: 7 x 7."""
_FEWEST_PIXELS = 256
"""Of fewer, the channel costs what it saves."""


def fill_channels(edit: GraphEdit) -> None:
    """Gives every integer convolution over 1 to 3 channels the fourth; what it computes stays the same."""
    for node in integer_nodes(edit.graph, "Conv"):
        source, weight = dequantizer(node.inputs[0]), dequantizer(node.inputs[1])
        if source is None or weight is None or node.attributes.get_int("group", 1) != 1 or _is_tiny(node):
            continue
        array = _integers(edit, weight)
        if array is None or array.ndim != 4 or array.dtype != np.int8 or array.shape[1] >= _CHANNELS:
            continue
        if np.prod(array.shape[2:]) <= _LARGEST_KERNEL:
            _fill(edit, node, source, weight, array)


def _is_tiny(node: ir.Node) -> bool:
    """The image is known to have few pixels."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    sizes = [size for size in shape[2:] if isinstance(size, int)] if shape is not None else []
    return len(sizes) == 2 and sizes[0] * sizes[1] < _FEWEST_PIXELS


def _integers(edit: GraphEdit, pair: ir.Node) -> Array | None:
    value = pair.inputs[0]
    return constant(value) if value is not None and edit.is_constant(value) else None


def _fill(edit: GraphEdit, node: ir.Node, source: ir.Node, weight: ir.Node, array: Array) -> None:
    """Pads the integers behind `source` with their zero point, and the weight with zeros."""
    integers, scale, zero_point = source.inputs[:3]
    missing = _CHANNELS - array.shape[1]
    pads = edit.constant(f"{node.name}_channels", np.array([0, 0, 0, 0, 0, missing, 0, 0], dtype=np.int64))
    padded = edit.node("Pad", [integers, pads, zero_point], f"{node.name}_Pad", like=node)
    restored = edit.node(
        "DequantizeLinear", [padded.outputs[0], scale, zero_point], f"{node.name}_Pad_DequantizeLinear", like=node
    )
    wider = np.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)))
    weights = edit.constant(f"{weight.inputs[0].name}_filled" if weight.inputs[0] else "filled", wider)
    filled = edit.node(
        "DequantizeLinear",
        [weights, *weight.inputs[1:]],
        f"{node.name}_filled_DequantizeLinear",
        like=node,
        attributes=list(weight.attributes.values()),
    )
    edit.graph.insert_before(node, [padded, restored, filled])
    node.replace_input_with(0, restored.outputs[0])
    node.replace_input_with(1, filled.outputs[0])
    operands = [value for value in (*source.inputs, *weight.inputs) if value is not None]
    remove_unused(edit, source, weight)
    for value in operands:
        edit.drop_if_unused(value)
