"""Products of activations that something is divided by, as in linear attention."""

from __future__ import annotations

import onnx_ir as ir

from edgeport.calibration.graph import constant_of, is_default_domain

__all__ = ["divisors"]

_DIVISOR = {"Div": 1, "Reciprocal": 0}
_PRODUCTS = frozenset({"MatMul"})
_CARRYING = frozenset(
    {
        *("Add", "Sub", "Mul", "Clip", "Relu", "Abs", "Max", "ReduceSum", "ReduceMean", "Identity"),
        *("Slice", "Split", "Gather", "Concat", "Pad", "Expand", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
        "Transpose",
    }
)
"""They pass on what they are given: what is near zero stays near zero."""


def divisors(graph: ir.Graph) -> frozenset[ir.Node]:
    """The products of two activations from which a divisor is made without another layer in between.

    A range that fits the sums beside it rounds a small divisor to none or to twice itself, and the quotient is then
    anything: linear attention (Katharopoulos et al., "Transformers are RNNs", 2020) divides each row by the sum of its
    weights, which one and the same product gives.
    """
    found: dict[ir.Node, None] = {}
    seen: set[ir.Node] = set()
    waiting = [node.inputs[_DIVISOR[node.op_type]] for node in graph if is_default_domain(node) and _divides(node)]
    while waiting:
        value = waiting.pop()
        node = value.producer() if value is not None else None
        if node is None or node in seen or not is_default_domain(node):
            continue
        seen.add(node)
        moving = [one for one in node.inputs if one is not None and constant_of(one) is None]
        if node.op_type in _PRODUCTS and len(moving) == len(node.inputs):
            found[node] = None
            waiting += moving
        elif node.op_type in _CARRYING:
            waiting += moving
    return frozenset(found)


def _divides(node: ir.Node) -> bool:
    return node.op_type in _DIVISOR and len(node.inputs) > _DIVISOR[node.op_type]
