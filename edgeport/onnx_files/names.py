"""Names of nodes: which PyTorch module a node came from, and a unique name for every node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["MODULE_KEY", "name_nodes", "node_module"]

MODULE_KEY = "edgeport.module"
"""Key in a node's metadata under which the export keeps the path of its PyTorch module."""


def node_module(node: onnx_ir.Node) -> str:
    """Path of the PyTorch module that the node came from ("layer1.0.conv1"), or ""."""
    return node.metadata_props.get(MODULE_KEY, "")


def name_nodes(model: onnx_ir.Model) -> None:
    """Gives every node without a name, or with one that is taken, a name of its own; the same file, the same names.

    A plan says by name which node runs in which precision, so no two may share one. The first holder keeps its name.
    """
    kept: set[str] = set()
    nameless: list[onnx_ir.Node] = []
    for node in _nodes(model):
        if node.name and node.name not in kept:
            kept.add(node.name)
        else:
            nameless.append(node)
    for node in nameless:
        stem = node.name or node.op_type
        number = 0
        while f"{stem}_{number}" in kept:
            number += 1
        node.name = f"{stem}_{number}"
        kept.add(node.name)


def _nodes(model: onnx_ir.Model) -> list[onnx_ir.Node]:
    nodes = list(model.graph.all_nodes())
    for function in model.functions.values():
        nodes += function.all_nodes()
    return nodes
