"""Writes a plan as ONNX Runtime's CPU provider wants it."""

from __future__ import annotations

import onnx_ir as ir

from edgeport.backends.onnxruntime.nbits import write_nbits
from edgeport.backends.onnxruntime.passes.channel_padding import fill_channels
from edgeport.backends.onnxruntime.passes.data_movement import pad_integers
from edgeport.backends.onnxruntime.passes.float_outputs import leave_ends_float
from edgeport.backends.onnxruntime.passes.matmul_bias import write_biased_products
from edgeport.backends.onnxruntime.passes.scale import fold_scalings
from edgeport.backends.onnxruntime.recurrent import write_recurrent
from edgeport.backends.qdq.graph import GraphEdit
from edgeport.backends.qdq.write import quantize_ir
from edgeport.contracts import QuantizationPlan, QuantizationRules

__all__ = ["write_onnxruntime"]


def write_onnxruntime(model: ir.Model, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    """Q/DQ where the runtime fuses them, its own operators where it does not; in place.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ or integer operators.
        PlanError: The plan does not fit the model or the dialect.

    """
    quantize_ir(model, leave_ends_float(model.graph, plan), rules, own_weights=write_nbits)
    edit = GraphEdit(model.graph)
    write_recurrent(edit, plan)
    write_biased_products(edit)
    pad_integers(edit)
    fold_scalings(edit)
    if rules.activation_dtype == "uint8":
        fill_channels(edit)
