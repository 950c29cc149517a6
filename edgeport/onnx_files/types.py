"""The types that a file leaves out, and the values that are no tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

__all__ = ["infer_types", "values_not_tensors"]

_GIVING_OTHERS = frozenset(
    {
        "Optional",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceMap",
        "SplitToSequence",
        "ZipMap",
    }
)
"""Operators whose results are sequences, maps or optional values."""
_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_LOOP_STATE = 2
"""First input of a Loop, and of its body, that is carried from turn to turn."""


def infer_types(model: ir.Model, *, shapes: bool = False) -> None:
    """Fills in the types that the file leaves out, by ONNX's own shape inference, in place.

    Of what is no tensor none is filled in: onnx-ir would take a sequence for a tensor of its items' type.

    Args:
        model: Changed in place.
        shapes: Shapes too, also those that the values of others tell.

    """
    named = [value for node in model.graph for value in node.outputs if value.name]
    if all(value.dtype is not None and not (shapes and value.shape is None) for value in named):
        return
    import onnx_ir as ir
    from onnx_ir.passes.common import ShapeInferencePass

    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=shapes)(model)
    for value in values_not_tensors(model.graph):
        if isinstance(value.type, ir.TensorType):
            value.type = None
            value.shape = None


def values_not_tensors(graph: Iterable[ir.Node]) -> set[ir.Value]:
    """Sequences, maps and optional values of a graph and its subgraphs, by the operators that give them."""
    found: set[ir.Value] = set()
    _find(graph, found)
    return found


def _find(graph: Iterable[ir.Node], found: set[ir.Value]) -> None:
    import onnx_ir as ir

    for node in graph:
        bodies = [one.as_graph() for one in node.attributes.values() if one.type == ir.AttributeType.GRAPH]
        skipped = 0
        if node.op_type == "Loop":
            skipped = 1  # a body also says whether to go on
            for body in bodies:
                given = zip(node.inputs[_LOOP_STATE:], body.inputs[_LOOP_STATE:], strict=False)
                found.update(inner for outer, inner in given if outer in found)
        for body in bodies:
            _find(body, found)
            given = zip(body.outputs[skipped:], node.outputs, strict=False)
            found.update(outer for inner, outer in given if inner in found)
        standard = node.domain in _STANDARD
        if standard and (node.op_type in _GIVING_OTHERS or (node.op_type == "Identity" and node.inputs[0] in found)):
            found.update(node.outputs)
