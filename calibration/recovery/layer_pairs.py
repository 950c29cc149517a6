"""Pairs of layers between which each channel may be scaled: divided by s in the first, multiplied by s in the second.

What stands between must let a positive factor of a channel through: f(s x) = s f(x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeport.calibration.graph import constant_of, is_default_domain
from edgeport.calibration.recovery.layers import Layer, find_layers, only_reader

__all__ = ["Pair", "find_pairs", "input_channels", "is_relu6"]

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity", "Dropout"})
_POOLING = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
"""They take values of one channel at a time, and channels are axis 1."""
_RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze"})


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two layers, one behind the other, with nothing else that reads what is between.

    Attributes:
        first: Its output channels are the input channels of `second`.
        second: The layer behind it.
        clips: The nodes between that cut at an upper limit, which no factor goes through.

    """

    first: Layer
    second: Layer
    clips: tuple[ir.Node, ...] = ()


def find_pairs(graph: ir.Graph) -> list[Pair]:
    """The pairs of a float model, in the order of computation; those with clips among them.

    A layer whose weight or bias another node reads too is in none.
    """
    layers = find_layers(graph)
    by_node = {layer.node: layer for layer in layers}
    return [pair for layer in layers if (pair := _pair(layer, by_node)) is not None]


def input_channels(layer: Layer) -> int:
    """How many channels a layer takes."""
    array = constant_of(layer.weight)
    shape = array.shape if array is not None else ()
    if layer.node.op_type == "Conv":
        return int(shape[1]) * layer.node.attributes.get_int("group", 1)
    if layer.node.op_type == "Gemm" and layer.node.attributes.get_int("transB", 0) == 1:
        return int(shape[1])
    return int(shape[0])


def is_relu6(node: ir.Node) -> bool:
    """A Clip with the lower limit 0 and an upper limit, such as 6."""
    return node.op_type == "Clip" and _limits(node) is not None and _limits(node) != (0.0, None)


def _pair(first: Layer, by_node: Mapping[ir.Node, Layer]) -> Pair | None:
    if not _is_own(first):
        return None
    value, axis = first.adding.outputs[0], first.channel_axis
    clips: list[ir.Node] = []
    while (node := only_reader(value)) is not None:
        second = by_node.get(node)
        if second is not None:
            fits = node.inputs[0] is value and _is_own(second) and input_channels(second) == first.channels
            return Pair(first=first, second=second, clips=tuple(clips)) if fits and _takes(second, axis) else None
        if not is_default_domain(node) or node.inputs[0] is not value or len(node.outputs) != 1:
            return None
        if is_relu6(node):
            clips.append(node)
        elif not _lets_through(node, axis):
            return None
        value = node.outputs[0]
    return None


def _is_own(layer: Layer) -> bool:
    """Nobody else reads its weight or its bias, and the bias is one per channel or not there."""
    if len(layer.weight.uses()) != 1 or layer.weight.is_graph_output():
        return False
    if layer.node.op_type == "ConvTranspose" and layer.node.attributes.get_int("group", 1) != 1:
        return False
    if layer.node.op_type == "Gemm" and layer.node.attributes.get_int("transA", 0) == 1:
        return False
    if layer.bias is None:
        inputs = layer.node.inputs
        return layer.node.op_type == "MatMul" or len(inputs) < 3 or inputs[2] is None
    return len(layer.bias.uses()) == 1


def _takes(second: Layer, axis: int) -> bool:
    """The axis of the channels is the one that the layer sums over."""
    if second.node.op_type == "MatMul":
        rank = _rank(second.node.inputs[0])
        return axis == -1 or (rank is not None and axis == rank - 1)
    if second.node.op_type == "Gemm":
        return axis in (1, -1)
    return axis == 1


def _lets_through(node: ir.Node, axis: int) -> bool:
    if node.op_type in _HOMOGENEOUS:
        return all(value is None or constant_of(value) is not None for value in node.inputs[1:])
    if node.op_type == "Clip":
        return _limits(node) == (0.0, None)
    if axis != 1:
        return False
    if node.op_type in _POOLING:
        return True
    if node.op_type == "ReduceMean":
        axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return _rank(node.inputs[0]) == 4 and axes is not None and sorted(int(one) % 4 for one in axes) == [2, 3]
    return node.op_type in _RESHAPING and _is_single(node.inputs[0]) and _rank(node.outputs[0]) == 2


def _limits(node: ir.Node) -> tuple[float, float | None] | None:
    """Lower and upper limit of a Clip that cuts at 0 from below; None for any other."""
    values = [*node.inputs[1:], None, None][:2]
    arrays = [constant_of(value) for value in values]
    if any(value is not None and array is None for value, array in zip(values, arrays, strict=True)):
        return None
    low, high = (None if array is None or array.size != 1 else float(array.reshape(())) for array in arrays)
    return (0.0, high) if low == 0.0 else None


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _is_single(value: ir.Value | None) -> bool:
    """One number per channel: [N, C, 1, 1]."""
    return value is not None and value.shape is not None and all(size == 1 for size in list(value.shape)[2:])
