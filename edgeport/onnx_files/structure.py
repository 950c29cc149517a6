"""Edges: every name has one producer, every consumer has a producer, and no node waits for itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.errors import ModelFormatError
from edgeport.onnx_files.walk import attribute_graphs, label

if TYPE_CHECKING:
    import onnx

__all__ = ["check_structure"]


def check_structure(model: onnx.ModelProto, path: Path) -> None:
    """Checks the edges of the graph, its subgraphs and functions.

    Nodes may stand in any order: the specification wants them sorted, but runtimes take them as they are.

    Raises:
        ModelFormatError: Names the node and the edge.

    """
    _check_graph(model.graph, frozenset(), path)
    for function in model.functions:
        _check_nodes(list(function.node), list(function.input), frozenset(), list(function.output), path)


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str], path: Path) -> None:
    initializers = [tensor.name for tensor in graph.initializer]
    initializers += [tensor.values.name for tensor in graph.sparse_initializer]
    inputs = [value.name for value in graph.input]
    for kind, names in (("input", inputs), ("initializer", initializers)):
        doubled = (
            next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        )
        if doubled is not None:
            raise _malformed(path, f"two {kind}s named {doubled!r}")
    # An initializer may carry an input's name: it is that input's default value.
    given = list(dict.fromkeys([*inputs, *initializers]))
    _check_nodes(list(graph.node), given, outer, [value.name for value in graph.output], path)


def _check_nodes(
    nodes: Sequence[onnx.NodeProto], given: Sequence[str], outer: frozenset[str], outputs: Iterable[str], path: Path
) -> None:
    producer: dict[str, int | None] = dict.fromkeys(given)
    for index, node in enumerate(nodes):
        for name in node.output:
            if not name:
                continue
            if name in producer:
                first = producer[name]
                other = "an input or initializer" if first is None else label(nodes[first])
                raise _malformed(path, f"tensor {name!r} produced twice: by {other} and by {label(node)}")
            producer[name] = index
    visible = outer | producer.keys()
    for node in nodes:
        for graph in attribute_graphs(node):
            _check_graph(graph, visible, path)
    edges = _edges(nodes, producer, outer, path)
    for name in outputs:
        if name not in producer and name not in outer:
            raise _malformed(path, f"output {name!r}, which no node produces")
    _check_acyclic(nodes, edges, path)


def _edges(
    nodes: Sequence[onnx.NodeProto], producer: dict[str, int | None], outer: frozenset[str], path: Path
) -> list[dict[int, str]]:
    """For each node, the nodes that it waits for and the name of a tensor that joins them."""
    edges: list[dict[int, str]] = []
    for node in nodes:
        waits: dict[int, str] = {}
        for name in (*node.input, *_captured(node)):
            if not name:
                continue
            if name not in producer:
                if name in outer:
                    continue
                raise _malformed(path, f"{label(node)} with input {name!r}, which nothing produces")
            source = producer[name]
            if source is not None:
                waits[source] = name
        edges.append(waits)
    return edges


def _captured(node: onnx.NodeProto) -> list[str]:
    """Names that a node's subgraphs take from outside themselves."""
    names: list[str] = []
    for graph in attribute_graphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {tensor.values.name for tensor in graph.sparse_initializer}
        own |= {name for inner in graph.node for name in inner.output}
        for inner in graph.node:
            names += [name for name in (*inner.input, *_captured(inner)) if name and name not in own]
        names += [value.name for value in graph.output if value.name not in own]
    return names


def _check_acyclic(nodes: Sequence[onnx.NodeProto], edges: list[dict[int, str]], path: Path) -> None:
    """Kahn's algorithm; what is left over waits for itself (Kahn, CACM 5(11), 1962)."""
    waiting = [len(waits) for waits in edges]
    followers: list[list[int]] = [[] for _ in nodes]
    for index, waits in enumerate(edges):
        for source in waits:
            followers[source].append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        done += 1
        for follower in followers[ready.pop()]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    if done == len(nodes):
        return
    node = next(index for index, count in enumerate(waiting) if count)
    seen: dict[int, str] = {}
    while node not in seen:  # every node left over waits for another one left over
        source, name = next((source, name) for source, name in edges[node].items() if waiting[source])
        seen[node] = name
        node = source
    edge = seen[node]
    raise _malformed(path, f"a cycle: {label(nodes[node])} waits for {edge!r}, which depends on its own output")


def _malformed(path: Path, found: str) -> ModelFormatError:
    return ModelFormatError(asked=f"open the ONNX model {path.name}", found=found, fix="export it again")
