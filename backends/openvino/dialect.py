"""Writes a plan as OpenVINO wants it: Q/DQ before integer operators only, and int8 weights alone for dynamic int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgeport.backends.openvino.rules import rules_for
from edgeport.backends.qdq.model_match import check_fits
from edgeport.backends.qdq.qdq_pruning import read_pairs_only
from edgeport.backends.qdq.write import quantize_ir
from edgeport.contracts import OnnxModel, Precision, QuantizationPlan, QuantizationRules
from edgeport.onnx_files import read_ir, write_ir

__all__ = ["write_openvino"]

_WRITTEN_AS = {Precision.INT8_DYNAMIC: Precision.INT8_WEIGHTS}


def write_openvino(model: OnnxModel, plan: QuantizationPlan, path: Path) -> OnnxModel:
    """The model with the plan's integer nodes written into it.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ or integer operators.
        PlanError: The plan does not fit the model or the dialect.

    """
    check_fits(model, plan)
    rules = rules_for()
    graph = read_ir(model)
    plan = _without_recurrent(graph.graph, plan, rules)
    # Dynamic int8 is OpenVINO's own: given int8 weights and float activations, it quantizes these itself, in groups.
    nodes = {name: _WRITTEN_AS.get(at, at) for name, at in plan.nodes.items()}
    plan = read_pairs_only(graph.graph, replace(plan, nodes=nodes), rules)
    quantize_ir(graph, plan, rules)
    _give_constants_all_axes(graph.graph)
    return write_ir(graph, path)


def _without_recurrent(graph: ir.Graph, plan: QuantizationPlan, rules: QuantizationRules) -> QuantizationPlan:
    """The plan but for the recurrent layers, which get their integers when OpenVINO has read the file."""
    recurrent = {
        str(node.name): node
        for node in graph
        if node.op_type in rules.recurrent_operators and plan.nodes.get(node.name or "") is Precision.INT8_DYNAMIC
    }
    read = {value.name for node in recurrent.values() for value in node.inputs if value is not None}
    return replace(
        plan,
        nodes={name: at for name, at in plan.nodes.items() if name not in recurrent},
        weights={name: scheme for name, scheme in plan.weights.items() if name not in read},
    )


def _give_constants_all_axes(graph: ir.Graph) -> None:
    """Constants of integer sums get as many axes as the sum has.

    OpenVINO 2026.4 moves them behind a Transpose, and fails there on one with fewer axes: "Input order must have shape
    [n], where n is the rank of arg".
    """
    for node in graph:
        if node.op_type != "Add" or node.outputs[0].shape is None:
            continue
        rank = len(node.outputs[0].shape)
        for value in node.inputs:
            source = value.producer() if value is not None else None
            if source is None or source.op_type != "DequantizeLinear" or source.attributes.get("axis") is not None:
                continue
            integers = source.inputs[0]
            if integers is None or integers.const_value is None or len(integers.const_value.shape) >= rank:
                continue
            array = integers.const_value.numpy()
            array = array.reshape((1,) * (rank - array.ndim) + array.shape)
            integers.const_value = ir.tensor(array, name=integers.name)
            integers.shape = source.outputs[0].shape = ir.Shape(array.shape)
