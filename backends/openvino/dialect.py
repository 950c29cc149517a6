"""Writes a plan as OpenVINO wants it: Q/DQ before integer operators only, and int8 weights alone for dynamic int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeport.backends.openvino.rules import rules_for, weight_only
from edgeport.backends.qdq.read_pairs import read_pairs_only
from edgeport.backends.qdq.write import write_plan
from edgeport.contracts import OnnxModel, Precision, QuantizationPlan
from edgeport.onnx_files import read_ir

__all__ = ["write_openvino"]


def write_openvino(model: OnnxModel, plan: QuantizationPlan, path: Path) -> OnnxModel:
    """The model with the plan's integer nodes written into it.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ or integer operators.
        PlanError: The plan does not fit the model or the dialect.

    """
    rules = rules_for()
    if Precision.INT8_DYNAMIC in plan.nodes.values():
        nodes = {name: Precision.INT8 if not at.is_float else at for name, at in plan.nodes.items()}
        plan, rules = replace(plan, nodes=nodes), weight_only(rules)
    return write_plan(model, read_pairs_only(read_ir(model).graph, plan, rules), rules, path)
