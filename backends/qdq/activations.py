"""Quantize-dequantize pairs on activations."""

from __future__ import annotations

import onnx_ir as ir

from edgeport.backends.qdq.graph import GraphEdit, is_static
from edgeport.backends.qdq.quant_params import activation_parameters
from edgeport.contracts import ActivationQuantization, Precision, QuantizationPlan

__all__ = ["write_activations"]


def write_activations(edit: GraphEdit, plan: QuantizationPlan) -> None:
    """Puts a pair behind every tensor that the plan names.

    Behind an int8 node everybody reads the pair, the graph's output too: the runtime then computes integers there,
    and they are what exists. Behind a float node (or a graph input) only int8 nodes do, and float ones lose nothing.
    An fp8 node gives wider floats, so behind it only those do that read fp8.
    """
    values = [edit.values[name] for name in plan.activations]
    for value in sorted(values, key=lambda value: str(value.name)):
        _write_pair(edit, plan, value, plan.activations[str(value.name)])


def _write_pair(edit: GraphEdit, plan: QuantizationPlan, value: ir.Value, spec: ActivationQuantization) -> None:
    producer = value.producer()
    behind_int8 = producer is not None and plan.nodes.get(producer.name or "") is Precision.INT8
    uses = [use for use in value.uses() if behind_int8 or is_static(use.node, plan)]
    like = producer if producer is not None else next((use.node for use in uses), None)
    name = str(value.name)

    parameters = activation_parameters(spec)
    constants = [
        edit.constant(f"{name}_scale", parameters.scale),
        edit.constant(f"{name}_zero_point", parameters.zero_point),
    ]
    quantized = edit.node("QuantizeLinear", [value, *constants], f"{name}_QuantizeLinear", like=like)
    integers = quantized.outputs[0]
    integers.type, integers.shape = constants[1].type, value.shape
    restored = edit.node("DequantizeLinear", [integers, *constants], f"{name}_DequantizeLinear", like=like)
    output = restored.outputs[0]
    output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), value.shape

    if producer is None:
        edit.graph.insert_before(edit.graph[0], [quantized, restored])
    else:
        edit.graph.insert_after(producer, [quantized, restored])
    for use in uses:
        use.node.replace_input_with(use.idx, output)
    if behind_int8 and value.is_graph_output():
        _become_output(edit, value, output)


def _become_output(edit: GraphEdit, value: ir.Value, output: ir.Value) -> None:
    """The pair's result takes the place and the name of the graph's output."""
    name, fresh = value.name, output.name
    for index, existing in enumerate(edit.graph.outputs):
        if existing is value:
            edit.graph.outputs[index] = output
    value.name = fresh
    output.name = name
