"""Products that end in float."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from edgeport.contracts import Precision, QuantizationPlan

__all__ = ["leave_ends_float"]

_FLOAT_OUTPUT = ("Gemm", "MatMul")
"""Their integer kernels (QGemm, MatMulIntegerToFloat) can give float32; a QLinearConv can't."""


def leave_ends_float(graph: ir.Graph, plan: QuantizationPlan) -> QuantizationPlan:
    """The plan without the pair behind a product, and its bias, that no int8 node reads, such as a classifier's scores.

    The sums are exact in 32 bits; rounding the scores to 256 steps would only make ties of them.
    """
    activations = dict(plan.activations)
    for node in graph:
        if node.op_type not in _FLOAT_OUTPUT or not _is_integer(node, plan):
            continue
        output = _behind_bias(node, plan)
        if not any(_is_integer(use.node, plan) for use in output.uses()):
            activations.pop(output.name or "", None)
    return replace(plan, activations=activations)


def _is_integer(node: ir.Node, plan: QuantizationPlan) -> bool:
    return plan.nodes.get(node.name or "") is Precision.INT8


def _behind_bias(node: ir.Node, plan: QuantizationPlan) -> ir.Value:
    """The product's result, or that of the Add that is folded into it."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    folded = len(readers) == 1 and readers[0].op_type == "Add" and output.name not in plan.activations
    return readers[0].outputs[0] if folded and _is_integer(readers[0], plan) else output
