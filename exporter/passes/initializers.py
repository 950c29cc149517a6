"""Initializers of a graph: what is constant, new ones, and those that nothing uses any more."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array

__all__ = ["constant_array", "drop_unused", "register", "unused_name"]


def constant_array(value: ir.Value | None) -> Array | None:
    """The array of an initializer that no caller can replace."""
    if value is None or not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def register(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Adds an initializer."""
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value


def unused_name(graph: ir.Graph, name: str) -> str:
    """The name, with the first free number behind it where it is taken."""
    if name not in graph.initializers:
        return name
    number = 1
    while f"{name}@{number}" in graph.initializers:
        number += 1
    return f"{name}@{number}"


def drop_unused(graph: ir.Graph, value: ir.Value) -> None:
    """Removes an initializer that nothing uses."""
    if value.is_initializer() and not value.uses() and not value.is_graph_output() and value.name is not None:
        graph.initializers.pop(value.name)
