"""Local functions: each may call others, which runtimes expand; so depth and the expanded size have limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.errors import ModelFormatError, ModelLimitError
from edgeport.onnx_files.walk import attribute_graphs

if TYPE_CHECKING:
    import onnx

__all__ = ["check_functions"]

_DEEPEST = 100
_MOST_NODES = 10_000_000
"""After expansion. A 60-deep chain of functions that call the next one twice is 2**60 nodes in a few kilobytes."""

_Key = tuple[str, str, str]


def check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Checks the calls between functions.

    Raises:
        ModelLimitError: Recursive, over 100 deep, or over ten million nodes when expanded.
        ModelFormatError: Two functions of one name.

    """
    calls: dict[_Key, list[_Key]] = {}
    nodes: dict[_Key, int] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in calls:
            raise ModelFormatError(
                asked=f"open the ONNX model {path.name}",
                found=f"two functions {function.name!r} in domain {function.domain!r}",
                fix="export it again",
            )
        calls[key], nodes[key] = [], 0
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        calls[key], nodes[key] = _calls(list(function.node), calls.keys())
    depth: dict[_Key, int] = {}
    size: dict[_Key, int] = {}
    for key in _callees_first(calls, path):
        depth[key] = 1 + max((depth[called] for called in calls[key]), default=0)
        size[key] = nodes[key] + sum(size[called] for called in calls[key])
        if depth[key] > _DEEPEST:
            raise _limit(path, f"function {key[1]!r}, from which calls go over {_DEEPEST} deep")
    called, count = _calls(list(model.graph.node), calls.keys())
    count += sum(size[key] for key in called)
    if count > _MOST_NODES:
        raise _limit(path, f"functions that expand to {count} nodes")


def _calls(nodes: list[onnx.NodeProto], known: object) -> tuple[list[_Key], int]:
    """Functions that the nodes call, at any depth of subgraphs, and the number of nodes."""
    called: list[_Key] = []
    count = 0
    pending = list(nodes)
    while pending:
        node = pending.pop()
        count += 1
        key = (node.domain, node.op_type, node.overload)
        if key in known:  # type: ignore[operator] # a view of keys
            called.append(key)
        for graph in attribute_graphs(node):
            pending.extend(graph.node)
    return called, count


def _callees_first(calls: dict[_Key, list[_Key]], path: Path) -> list[_Key]:
    """An order in which every function follows those that it calls (depth first, with a stack of our own)."""
    order: list[_Key] = []
    state: dict[_Key, int] = {}  # 1 while its callees are visited, 2 when done
    for start in calls:
        stack = [start]
        while stack:
            key = stack[-1]
            if state.get(key) is None:
                state[key] = 1
                for called in calls[key]:
                    if state.get(called) == 1:
                        raise _limit(path, f"function {called[1]!r}, which calls itself by way of {key[1]!r}")
                    if state.get(called) is None:
                        stack.append(called)
            else:
                stack.pop()
                if state[key] == 1:
                    state[key] = 2
                    order.append(key)
    return order


def _limit(path: Path, found: str) -> ModelLimitError:
    return ModelLimitError(
        asked=f"open the ONNX model {path.name}", found=found, fix="inline its functions before (onnx.inliner)"
    )
