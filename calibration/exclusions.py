"""Nodes that the user, or a search, keeps in float."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from edgeport.errors import PlanError, did_you_mean

__all__ = ["KEEP_FLOAT", "excluded_nodes"]

KEEP_FLOAT = "edgeport.keep_float"
"""Node metadata: whoever put the node there has it stay in float, for the reason that is its value."""


def excluded_nodes(
    graph: ir.Graph, exclude: Mapping[str, str], only: Collection[str] | None = None
) -> frozenset[ir.Node]:
    """The nodes that `exclude` names, by their own name or by their operator type, those that `only` does not name, and
    those marked KEEP_FLOAT.

    Args:
        graph: Of the model.
        exclude: Name or operator type to the reason.
        only: Names of nodes; None for all.

    Raises:
        PlanError: A key that names nothing.

    """
    chosen: set[ir.Node] = {node for node in graph if KEEP_FLOAT in node.metadata_props}
    if only is not None:
        chosen |= {node for node in graph if node.name not in only}
    for key in exclude:
        nodes = [node for node in graph if key in (node.name, node.op_type)]
        if not nodes:
            known = sorted({name for node in graph for name in (node.name, node.op_type) if name})
            raise PlanError(
                asked=f"keep {key!r} in float",
                found="no node and no operator type of this name",
                fix=did_you_mean(key, known, "name a node or an operator type of the model"),
            )
        chosen.update(nodes)
    return frozenset(chosen)
