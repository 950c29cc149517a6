"""Operators that only some runtime has, or that need a library of somebody's own."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from edgeport.errors import UnsupportedByBackend

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["refuse_custom_operators"]

_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_SHOWN = 3


def refuse_custom_operators(model: onnx_ir.Model, *, asked: str, runtime: str, known: Collection[str]) -> None:
    """Raises where a node is of a domain that the runtime does not bring along: its code would be a foreign library.

    Args:
        model: That the runtime is to run.
        asked: What for, as the error says it ("compile net.onnx for OpenVINO").
        runtime: Its name, as the error says it.
        known: Domains beside the standard's whose operators the runtime has.

    Raises:
        UnsupportedByBackend: There is such a node; the error names it, its operator and its domain.

    """
    nodes = list(_custom_nodes(model, _STANDARD_DOMAINS | frozenset(known)))
    if not nodes:
        return
    shown = ", ".join(f"{node.domain}.{node.op_type} (node {node.name!r})" for node in nodes[:_SHOWN])
    others = f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else ""
    raise UnsupportedByBackend(
        asked=asked,
        found=f"custom operators that {runtime} has not: {shown}{others}",
        fix="export the model with standard ONNX operators, or with the operator as a function in the file; "
        "libraries of custom operators are not loaded",
        details={
            "domains": sorted({node.domain for node in nodes}),
            "operators": sorted({f"{node.domain}.{node.op_type}" for node in nodes}),
            "nodes": [node.name for node in nodes],
        },
    )


def _custom_nodes(model: onnx_ir.Model, known: Collection[str]) -> Iterator[onnx_ir.Node]:
    defined = {(function.domain, function.name) for function in model.functions.values()}
    inside = (node for function in model.functions.values() for node in function.all_nodes())
    for node in itertools.chain(model.graph.all_nodes(), inside):
        if node.domain not in known and (node.domain, node.op_type) not in defined:
            yield node
