"""Groups of integer nodes that go to float together.

The planner's own rule makes them: a node that multiplies is quantized for its own sake, every other node follows its
inputs. So each multiplying node leads a group, and what follows it (the activation that is folded into it, the residual
Add that it feeds, what only moves its numbers) belongs to it. A node with several inputs follows the last of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from edgeport.calibration.integer_nodes import MULTIPLYING
from edgeport.calibration.mixed_plan import nodes_meant
from edgeport.contracts import Precision, QuantizationPlan
from edgeport.onnx_files import node_module

__all__ = ["NodeGroup", "node_groups"]

_WILD = frozenset("*?[")


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """Nodes that run as integers together, or not at all.

    Attributes:
        name: Of the first of them; unique.
        nodes: Their names, in the order of computation.
        beside: Names of the groups that hand it tensors, or take its own.

    """

    name: str
    nodes: tuple[str, ...]
    beside: tuple[str, ...] = ()


def node_groups(
    graph: ir.Graph, plan: QuantizationPlan, chosen: Collection[ir.Node] = frozenset()
) -> tuple[NodeGroup, ...]:
    """The groups of a plan's static int8 nodes, in the order of computation.

    Args:
        graph: Of the model.
        plan: Of the whole model.
        chosen: Nodes whose precision somebody has chosen already; they are in no group.

    """
    home = _homes([node for node in graph if plan.nodes.get(str(node.name)) is Precision.INT8 and node not in chosen])
    home = _joined_by_name(graph, home, chosen)
    members: dict[ir.Node, list[ir.Node]] = {}
    for node, leader in home.items():
        members.setdefault(leader, []).append(node)
    first = {leader: str(nodes[0].name) for leader, nodes in members.items()}
    return tuple(
        NodeGroup(
            name=first[leader],
            nodes=tuple(str(node.name) for node in nodes),
            beside=tuple(
                first[other] for other in members if other in _neighbours(nodes, home) and other is not leader
            ),
        )
        for leader, nodes in members.items()
    )


def _homes(nodes: list[ir.Node]) -> dict[ir.Node, ir.Node]:
    """Each node with the one that leads its group."""
    home: dict[ir.Node, ir.Node] = {}
    order = {node: index for index, node in enumerate(nodes)}
    for node in nodes:
        before = [home[source] for source in _sources(node) if source in home]
        follows = before and node.op_type not in MULTIPLYING
        home[node] = max(before, key=lambda leader: order[leader]) if follows else node
    return home


def _joined_by_name(
    graph: ir.Graph, home: dict[ir.Node, ir.Node], chosen: Collection[ir.Node]
) -> dict[ir.Node, ir.Node]:
    """Groups as a choice can name them.

    A node may be called like an operator type, a module or a pattern that means others too: then they are one group,
    and where one of those others has a precision already, there is no such group.
    """
    known = {node.op_type for node in graph}
    for node in graph:
        parts = (node_module(node) or "").split(".")
        known |= {".".join(parts[: index + 1]) for index in range(len(parts))}
    for node in list(home):
        name = str(node.name)
        if node not in home or (name not in known and not _WILD & set(name)):
            continue
        meant = [other for other in nodes_meant(graph, name) if other in home or other in chosen]
        leaders = {home[other] for other in (node, *meant) if other in home}
        if any(other in chosen for other in meant):
            home = {each: leader for each, leader in home.items() if leader not in leaders}
        elif len(leaders) > 1:
            one = next(leader for leader in home.values() if leader in leaders)
            home = {each: one if leader in leaders else leader for each, leader in home.items()}
    return home


def _neighbours(nodes: list[ir.Node], home: dict[ir.Node, ir.Node]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    for node in nodes:
        after = [use.node for value in node.outputs for use in value.uses()]
        found |= {home[other] for other in (*_sources(node), *after) if other in home}
    return found


def _sources(node: ir.Node) -> list[ir.Node]:
    producers = [value.producer() for value in node.inputs if value is not None]
    return [producer for producer in producers if producer is not None]
