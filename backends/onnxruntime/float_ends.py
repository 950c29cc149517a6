"""Products that end in float."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from edgeport.contracts import Precision, QuantizationPlan

__all__ = ["leave_ends_float"]

_FLOAT_OUTPUT = ("Gemm", "MatMul")
"""Their integer kernels (QGemm, MatMulIntegerToFloat) can give float32; a QLinearConv can't."""


def leave_ends_float(graph: ir.Graph, plan: QuantizationPlan) -> QuantizationPlan:
    """The plan without the pair behind a product that no int8 node reads, such as a classifier's scores.

    The sums are exact in 32 bits; rounding the scores to 256 steps would only make ties of them.
    """
    activations = dict(plan.activations)
    for node in graph:
        if node.op_type not in _FLOAT_OUTPUT or plan.nodes.get(node.name or "") is not Precision.INT8:
            continue
        output = node.outputs[0]
        if not any(plan.nodes.get(use.node.name or "") is Precision.INT8 for use in output.uses()):
            activations.pop(output.name or "", None)
    return replace(plan, activations=activations)
