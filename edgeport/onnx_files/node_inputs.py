"""What a node reads, its subgraphs included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["values_read"]


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, in its own inputs and from inside its subgraphs; values of the subgraphs are among it."""
    import onnx_ir as ir

    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from _captured(graph)


def _captured(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from values_read(node)
    yield from graph.outputs
