"""A model that a recovery method made, and how its constants are replaced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array, OnnxModel

__all__ = ["RecoveryResult", "set_constant"]


@dataclass(frozen=True, kw_only=True)
class RecoveryResult:
    """What became of a model.

    Attributes:
        model: The written file.
        said: What was done, for people: "bias-correction (20 of 21 layers, 128 samples)".

    """

    model: OnnxModel
    said: str


def set_constant(graph: ir.Graph, node: ir.Node, index: int, array: Array, *, name: str) -> None:
    """Makes `array` the input `index` of the node; others that read the old constant keep it.

    A constant that nobody else reads keeps its name, so that what a plan says of it stays true.

    Args:
        graph: Of the node.
        node: It may have fewer inputs yet.
        index: Of an initializer, the output of a Constant node, or nothing.
        array: Of the dtype that it is to have.
        name: Of a new constant, where one is needed.

    """
    old = node.inputs[index] if index < len(node.inputs) else None
    if old is not None and old.is_initializer() and len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.tensor(np.ascontiguousarray(array), name=old.name)
        return
    taken = {value.name for value in graph.inputs} | set(graph.initializers)
    taken |= {value.name for one in graph.all_nodes() for value in one.outputs}
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    tensor = ir.tensor(np.ascontiguousarray(array), name=free)
    value = ir.Value(name=free, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
