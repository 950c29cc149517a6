"""What the passes look for around an integer node: its pairs, constants and only reader."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit
from edgeport.contracts import Array, Precision

__all__ = ["constant", "dequantizer", "integer_nodes", "remove_unused", "sole_reader"]


def integer_nodes(graph: ir.Graph, operator: str) -> list[ir.Node]:
    """The nodes of this operator that the plan runs in int8."""
    integer = str(Precision.INT8)
    return [one for one in graph if one.op_type == operator and one.metadata_props.get(PRECISION_KEY) == integer]


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that gives the value."""
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def sole_reader(node: ir.Node, operator: str) -> ir.Node | None:
    """The node of this operator that alone reads the first output, in the same graph."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    if len(readers) != 1 or readers[0].op_type != operator or readers[0].graph is not node.graph:
        return None
    return None if output.is_graph_output() else readers[0]


def constant(value: ir.Value | None) -> Array | None:
    """The numbers of a constant."""
    return np.asarray(value.const_value.numpy()) if value is not None and value.const_value is not None else None


def remove_unused(edit: GraphEdit, *nodes: ir.Node) -> None:
    """Removes the nodes whose first output nobody reads."""
    for node in nodes:
        if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            edit.graph.remove(node, safe=True)
