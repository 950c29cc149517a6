"""Walks through everything that a model holds: graphs within graphs, functions, tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["attribute_graphs", "label", "node_lists", "tensors"]


def label(node: onnx.NodeProto) -> str:
    """A node as an error names it: `Conv 'stem'`; by its first output where it has no name."""
    name = node.name or next((f"-> {output}" for output in node.output if output), "")
    return f"{node.op_type} {name!r}" if name else node.op_type


def attribute_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs that a node holds (branches of If, bodies of Loop and Scan)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _graphs(nodes: list[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for graph in attribute_graphs(node):
            yield graph
            yield from _graphs(list(graph.node))


def node_lists(model: onnx.ModelProto) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Every list of nodes in the model, with what it belongs to."""
    yield "the graph", list(model.graph.node)
    for graph in _graphs(list(model.graph.node)):
        yield f"subgraph {graph.name!r}", list(graph.node)
    for function in model.functions:
        yield f"function {function.name!r}", list(function.node)
        for graph in _graphs(list(function.node)):
            yield f"subgraph {graph.name!r}", list(graph.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant in the model: initializers and attributes, dense and sparse, at any depth."""
    yield from _graph_tensors(model.graph)
    for _, nodes in node_lists(model):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                own_sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
                for sparse in (*own_sparse, *attribute.sparse_tensors):
                    yield sparse.values
                    yield sparse.indices
                for graph in attribute_graphs(node):
                    yield from _graph_tensors(graph)
    for function in model.functions:
        for default in function.attribute_proto:
            if default.HasField("t"):
                yield default.t
            yield from default.tensors
