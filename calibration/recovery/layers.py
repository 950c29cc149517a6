"""The layers of a graph that multiply by a constant weight, and where their bias is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from edgeport.calibration.graph import constant_of, is_default_domain

__all__ = ["Layer", "find_layers", "only_reader"]

_CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A Conv, ConvTranspose, Gemm or MatMul with a constant float32 weight.

    Attributes:
        node: That multiplies.
        weight: Its weight: [M, C/group, ...], of a ConvTranspose [C, M/group, ...]; [K, N], or [N, K] with transB.
        adding: The node that adds the bias: `node` itself, or the Add behind a MatMul.
        bias_index: Which input of `adding` the bias is, or would be; None where it can have none of [channels].
        bias: The constant bias [channels]; None where there is none yet.
        channel_axis: Of the output.
        channels: Of the output.

    """

    node: ir.Node
    weight: ir.Value
    adding: ir.Node
    bias_index: int | None
    bias: ir.Value | None
    channel_axis: int
    channels: int

    @property
    def name(self) -> str:
        """Of the node that multiplies."""
        return str(self.node.name)


def find_layers(graph: ir.Graph, names: Collection[str] | None = None) -> list[Layer]:
    """The layers, in the order of computation.

    Args:
        graph: Of a float model.
        names: Of the nodes that are looked at; None for all.

    """
    chosen = (node for node in graph if names is None or node.name in names)
    return [layer for node in chosen if (layer := _layer(node)) is not None]


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads the value, in the graph itself; None where others do, or the caller of the model."""
    readers = [use.node for use in value.uses()]
    if value.is_graph_output() or len(readers) != 1:
        return None
    node = readers[0]
    producer = value.producer()
    return node if producer is None or node.graph is producer.graph else None


def _layer(node: ir.Node) -> Layer | None:
    weight = node.inputs[1] if is_default_domain(node) and len(node.inputs) > 1 else None
    if weight is None or not weight.is_initializer() or weight.dtype != ir.DataType.FLOAT:
        return None
    array = constant_of(weight)
    if array is None:
        return None
    shape = array.shape
    if node.op_type in _CONVOLUTIONS:
        group = node.attributes.get_int("group", 1)
        channels = shape[0] if node.op_type == "Conv" else shape[1] * group
        return _with_bias(node, weight, node, 2, channels, axis=1)
    if node.op_type == "Gemm":
        channels = shape[0] if node.attributes.get_int("transB", 0) else shape[1]
        plain = node.attributes.get_float("beta", 1.0) == 1.0
        return _with_bias(node, weight, node, 2 if plain else None, channels, axis=1)
    if node.op_type == "MatMul" and len(shape) == 2:
        return _with_add(node, weight, shape[1])
    return None


def _with_bias(
    node: ir.Node, weight: ir.Value, adding: ir.Node, index: int | None, channels: int, *, axis: int
) -> Layer:
    there = adding.inputs[index] if index is not None and index < len(adding.inputs) else None
    if there is not None and not _one_per_channel(there, channels):
        index, there = None, None
    return Layer(
        node=node,
        weight=weight,
        adding=adding,
        bias_index=index,
        bias=there,
        channel_axis=axis,
        channels=channels,
    )


def _with_add(node: ir.Node, weight: ir.Value, channels: int) -> Layer:
    """A MatMul, whose bias is the constant that an Add right behind it adds."""
    after = only_reader(node.outputs[0])
    if after is not None and is_default_domain(after) and after.op_type == "Add":
        index = 1 if after.inputs[0] is node.outputs[0] else 0
        value = after.inputs[index]
        if value is not None and _one_per_channel(value, channels):
            return _with_bias(node, weight, after, index, channels, axis=-1)
    return _with_bias(node, weight, node, None, channels, axis=-1)


def _one_per_channel(value: ir.Value, channels: int) -> bool:
    array = constant_of(value)
    return array is not None and array.shape == (channels,) and value.dtype == ir.DataType.FLOAT
