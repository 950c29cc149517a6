"""Writes a quantization plan into an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from edgeport.backends.qdq.activations import write_activations
from edgeport.backends.qdq.dynamic import write_dynamic
from edgeport.backends.qdq.graph import PRECISION_KEY, GraphEdit, new_initializer
from edgeport.backends.qdq.model_match import check_fits
from edgeport.backends.qdq.plan_validation import check_plan
from edgeport.backends.qdq.weight_only import raise_opset, write_weight_only
from edgeport.backends.qdq.weights import write_weights
from edgeport.contracts import OnnxModel, QuantizationPlan, QuantizationRules
from edgeport.onnx_files import read_ir, refuse_quantized, write_ir

__all__ = ["quantize_ir", "write_plan"]


def write_plan(model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules, output: Path) -> OnnxModel:
    """Writes the model as `plan` says, in the dialect `rules`, to the file `output`; equal plans give equal bytes.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ or integer operators.
        PlanError: The plan was made for another model or dialect, or does not fit this one.

    """
    check_fits(model, plan)
    graph = read_ir(model)
    quantize_ir(graph, plan, rules)
    return write_ir(graph, output)


def quantize_ir(
    model: ir.Model,
    plan: QuantizationPlan,
    rules: QuantizationRules,
    *,
    own_weights: Callable[[GraphEdit, QuantizationPlan, QuantizationRules], None] | None = None,
) -> None:
    """As `write_plan`, on a graph in memory, in place.

    Args:
        model: A float model.
        plan: Of it.
        rules: The dialect.
        own_weights: Writes the nodes whose weights alone are integers, where the dialect has operators of its own for
            them; else a DequantizeLinear stands before each.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ or integer operators.
        PlanError: The plan does not fit the model or the dialect.

    """
    refuse_quantized(model, "quantize the model")
    _lift_constants(model.graph, plan)
    edit = GraphEdit(model.graph)
    check_plan(edit, model.opset_imports.get("", 0), plan, rules)
    for name, precision in plan.nodes.items():
        if not precision.is_float:
            edit.nodes[name].metadata_props[PRECISION_KEY] = str(precision)
    # Weights first: they find their activations by the names that the pairs take over.
    write_weights(edit, plan, rules)
    write_activations(edit, plan)
    write_dynamic(edit, plan)
    if own_weights is not None:
        own_weights(edit, plan, rules)
    else:
        raise_opset(model, plan)
        write_weight_only(edit, plan, rules)


def _lift_constants(graph: ir.Graph, plan: QuantizationPlan) -> None:
    """Makes initializers of the Constant nodes that the plan stores as integers; to the runtime they are the same."""
    for node in list(graph):
        value = node.attributes.get("value") if node.op_type == "Constant" and node.domain == "" else None
        if value is None or node.outputs[0].name not in plan.weights:
            continue
        old, tensor = node.outputs[0], value.as_tensor()
        new = new_initializer(graph, str(old.name), tensor)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
