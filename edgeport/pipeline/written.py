"""A plan as its backend writes it, where any runtime is to run what that one will."""

from __future__ import annotations

from pathlib import Path

from edgeport.contracts import OnnxModel, QuantizationPlan, QuantizationRules

__all__ = ["as_written", "write_as"]


def as_written(backend: str, model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules) -> QuantizationPlan:
    """Without the pairs that the backend leaves out of what it writes."""
    from edgeport.backends.onnxruntime.float_ends import leave_ends_float
    from edgeport.backends.qdq.read_pairs import read_pairs_only
    from edgeport.onnx_files import read_ir

    graph = read_ir(model).graph
    if backend == "onnxruntime":
        return leave_ends_float(graph, plan)
    return read_pairs_only(graph, plan, rules) if backend in ("openvino", "tensorrt") else plan


def write_as(backend: str, model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules, path: Path) -> OnnxModel:
    """The model with the plan's pairs, those that the backend leaves out apart, to `path`.

    Raises:
        PlanError: See `write_plan`.

    """
    from edgeport.backends.qdq.write import write_plan

    return write_plan(model, as_written(backend, model, plan, rules), rules, path)
