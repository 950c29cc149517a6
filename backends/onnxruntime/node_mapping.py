"""From a node of the runtime's optimised graph back to the nodes of the file that went into it.

The runtime keeps some names and derives others; what it leaves over is found by following the edges.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from edgeport.backends.qdq.graph import PARTS_KEY, PRECISION_KEY
from edgeport.contracts import Precision

__all__ = ["MOVING", "Origins"]

MOVING = frozenset(
    {
        *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Concat", "Split", "Expand"),
        *("Identity", "Cast", "DepthToSpace", "SpaceToDepth", "Pad", "Tile", "ReorderInput", "ReorderOutput"),
        *("Shape", "Size", "Constant", "ConstantOfShape", "Range"),
    }
)
"""Operators that lay numbers out anew and compute none."""

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_ENDINGS = ("Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu")
# "conv1_token_3": a copy that a transform made; "fused conv1": with its activation; "relu_nchwc": by its output.
_COPY = re.compile(r"_token_\d+$")
_FUSED = "fused "
_BLOCKED = "_nchwc"
_LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")


class Origins:
    """Which nodes of the file each optimised node stands for.

    Args:
        shipped: The graph of the file.
        optimised: What the runtime made of it.

    """

    def __init__(self, shipped: ir.Graph, optimised: ir.Graph) -> None:
        self._by_name = {node.name: node for node in shipped if node.name}
        self._by_output = {value.name: node for node in shipped for value in node.outputs if value.name}
        self._anchors = {node: anchor for node in optimised if (anchor := self._anchor(node)) is not None}
        owners = {anchor: node for node, anchor in reversed(self._anchors.items())}
        self._parts: dict[ir.Node, list[ir.Node]] = {}
        for part in shipped:
            owner = _owner(part, owners)
            # A pair or a move that has no node of its own any more was taken out, not computed by its neighbour.
            stands = owners.get(part) is owner
            if owner is not None and (stands or part.op_type not in (*_PAIR, *MOVING)):
                self._parts.setdefault(owner, []).append(part)

    def of(self, node: ir.Node) -> tuple[str, ...]:
        """Names of the file's nodes and of what they were made of, in its order.

        Empty where the runtime made the node up (a layout change).
        """
        return tuple(name for part in self._parts.get(node, ()) for name in _names(part))

    def planned_int8(self, node: ir.Node) -> bool:
        """One of them was planned to run in integers."""
        integer = (Precision.INT8, Precision.INT8_DYNAMIC)
        return any(part.metadata_props.get(PRECISION_KEY) in integer for part in self._parts.get(node, ()))

    def _anchor(self, node: ir.Node) -> ir.Node | None:
        """The one node of the file that gave `node` its name or its output."""
        name = (node.name or "").removeprefix(_FUSED)
        for candidate in (name, _COPY.sub("", name)):
            if candidate in self._by_name:
                return self._by_name[candidate]
        by_output = self._by_output.get(name.removesuffix(_BLOCKED))
        if by_output is not None:
            return by_output
        found = next((self._by_output[value.name] for value in node.outputs if value.name in self._by_output), None)
        # A layout change that the runtime put last has the name of the output, and none of the work.
        return None if found is None or (node.op_type in _LAYOUT and found.op_type != node.op_type) else found


def _names(part: ir.Node) -> tuple[str, ...]:
    parts = part.metadata_props.get(PARTS_KEY)
    return tuple(parts.split("\n")) if parts else (part.name,) if part.name else ()


def _owner(part: ir.Node, owners: dict[ir.Node, ir.Node]) -> ir.Node | None:
    """The optimised node that took `part` in: its own, or that of the neighbour it was folded into.

    Sums and activations are folded into what comes before them, everything else into what comes after.
    """
    if part in owners:
        return owners[part]
    steps = (_before, _after) if part.op_type in _ENDINGS else (_after, _before)
    for step in steps:
        seen, node = {part}, step(part)
        while node is not None and node not in seen:
            if node in owners and node.op_type not in _PAIR:
                return owners[node]
            seen.add(node)
            node = step(node)
    return None


def _before(node: ir.Node) -> ir.Node | None:
    """What the node is folded into: of several sources one that has no other reader."""
    sources = [value for value in node.inputs if value is not None and value.producer() is not None]
    own = [value for value in sources if len(value.uses()) == 1]
    return next((value.producer() for value in own + sources), None)


def _after(node: ir.Node) -> ir.Node | None:
    """The only reader of the node's output; with several, nothing is folded over them."""
    readers = {use.node for value in node.outputs for use in value.uses()}
    return next(iter(readers)) if len(readers) == 1 else None
