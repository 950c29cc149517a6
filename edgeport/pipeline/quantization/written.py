"""A plan as its backend writes it, where any runtime is to run what that one will."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import OnnxModel, QuantizationPlan, QuantizationRules

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["as_written", "write_as"]


def as_written(backend: str, model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules) -> QuantizationPlan:
    """Without the pairs that the backend leaves out of what it writes."""
    from edgeport.onnx_files import read_ir

    return _as_written(backend, read_ir(model).graph, plan, rules)


def _as_written(backend: str, graph: ir.Graph, plan: QuantizationPlan, rules: QuantizationRules) -> QuantizationPlan:
    from edgeport.backends.onnxruntime.passes.float_outputs import leave_ends_float
    from edgeport.backends.qdq.qdq_pruning import read_pairs_only

    if backend == "onnxruntime":
        return leave_ends_float(graph, plan)
    return read_pairs_only(graph, plan, rules) if backend in ("openvino", "tensorrt") else plan


def write_as(backend: str, model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules, folder: Path) -> Path:
    """The model with the plan's pairs, those that the backend leaves out apart, to a file as `write_scratch` writes it.

    Raises:
        PlanError: See `write_plan`.

    """
    from edgeport.backends.qdq.model_match import check_fits
    from edgeport.backends.qdq.write import quantize_ir
    from edgeport.onnx_files import read_ir, write_scratch

    check_fits(model, plan)
    graph = read_ir(model)  # once for both
    quantize_ir(graph, _as_written(backend, graph.graph, plan, rules), rules)
    return write_scratch(graph, folder, model.path.name)
