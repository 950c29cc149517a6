"""What a frozen model can compute ahead, in turn with the rewrites that this makes room for."""

from __future__ import annotations

import onnx_ir as ir

from edgeport.exporter.passes.attention_transpose import merge_key_transposes

__all__ = ["fold_constants", "simplify"]

_MAXIMUM_FOLDED = 16 << 20
"""Elements. A constant that is computed from weights may be as large as they are; one that is made of nothing
(ConstantOfShape, Expand) would only make the file larger, so its limit is the library's own."""

_ROUNDS = 3
"""Folding makes room for rewrites and the other way round; no network of the tests changes in a fourth."""

_LIBRARY_LIMIT = 8192
"""Elements of an input above which onnxscript leaves a node alone."""


def fold_constants(model: ir.Model) -> None:
    """Computes everything that depends on weights and sizes only, and keeps all constants as initializers.

    Args:
        model: Changed in place.

    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    common.InlinePass()(model)
    optimizer.fold_constants(
        model, onnx_shape_inference=True, output_size_limit=_MAXIMUM_FOLDED, should_fold=_should_fold
    )
    for each in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveUnusedNodesPass(),
    ):
        each(model)


def simplify(model: ir.Model) -> None:
    """Constant folding and onnxscript's default rewrites in turn, and what is unused goes.

    Equal weights are not merged: each keeps its own name, and can be quantized or corrected alone.

    Args:
        model: Changed in place.

    """
    from onnx_ir.passes import common
    from onnxscript import rewriter

    for _ in range(_ROUNDS):
        fold_constants(model)
        rewriter.rewrite(model)
        merge_key_transposes(model)
        common.RemoveUnusedNodesPass()(model)
    for each in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
    ):
        each(model)


def _should_fold(node: ir.Node) -> bool | None:
    """Weights that the graph computes (standardised, concatenated) are constants all the same."""
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "DequantizeLinear"):
        return None
    sizes = [value.const_value.size for value in node.inputs if value is not None and value.const_value is not None]
    return True if max(sizes, default=0) > _LIBRARY_LIMIT and sum(sizes) <= _MAXIMUM_FOLDED else None
