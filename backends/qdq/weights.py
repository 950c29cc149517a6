"""Weights and biases as integers behind a DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.bias import bias_integers, bias_scale, scale_floor
from edgeport.backends.qdq.graph import GraphEdit, is_static
from edgeport.backends.qdq.quant_params import (
    QuantizationParameters,
    activation_parameters,
    quantize,
    weight_parameters,
)
from edgeport.contracts import Array, Precision, QuantizationPlan, QuantizationRules
from edgeport.errors import PlanError

__all__ = ["constant_array", "write_weights"]


def write_weights(edit: GraphEdit, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    """Stores the weights of the plan's int8 nodes as integers, and their biases where the dialect wants it.

    Those of fp8 nodes become floats of 8 bits; their biases stay.

    A float node that reads the same weight keeps the float one.
    """
    biases = _find_biases(edit, plan, rules) if rules.quantize_bias else []
    floors = _scale_floors(biases)
    written: dict[str, QuantizationParameters] = {}
    for node in list(edit.graph):
        if not is_static(node, plan):
            continue
        for value in node.inputs:
            name = value.name if value is not None else None
            if value is None or name is None or name not in plan.weights or name in written:
                continue
            array = constant_array(value)
            parameters = weight_parameters(array, plan.weights[name], floor=floors.get(name, 0.0))
            written[name] = parameters
            _write_weight(edit, plan, value, quantize(array, parameters), parameters)
    for bias in biases:
        _write_bias(edit, bias, written[bias.weight])
    for value in (*(edit.values[name] for name in written), *(bias.value for bias in biases)):
        edit.drop_if_unused(value)


def constant_array(value: ir.Value) -> Array:
    """The numbers of an initializer.

    Raises:
        PlanError: They are not finite.

    """
    array: Array = np.asarray(value.const_value.numpy() if value.const_value is not None else ())
    if not np.isfinite(array).all():
        raise PlanError(
            asked=f"quantize the constant {value.name!r}",
            found="NaN or Inf in it",
            fix="train the model again from a healthy checkpoint, or leave the nodes that read it in float",
        )
    return array


def _write_weight(
    edit: GraphEdit, plan: QuantizationPlan, value: ir.Value, integers: Array, parameters: QuantizationParameters
) -> None:
    """Puts integers and a DequantizeLinear in place of a float constant, for the int8 nodes that read it."""
    uses = [use for use in value.uses() if is_static(use.node, plan)]
    readers = {use.node for use in uses}
    first = next(node for node in edit.graph if node in readers)
    name = str(value.name)
    node = _dequantize(edit, name, integers, parameters, first)
    for use in uses:
        use.node.replace_input_with(use.idx, node.outputs[0])


def _dequantize(
    edit: GraphEdit, name: str, integers: Array, parameters: QuantizationParameters, reader: ir.Node
) -> ir.Node:
    """A DequantizeLinear of constants, right before `reader`."""
    inputs = [
        edit.constant(f"{name}_quantized", integers),
        edit.constant(f"{name}_scale", parameters.scale),
        edit.constant(f"{name}_zero_point", parameters.zero_point),
    ]
    attributes = [] if parameters.axis is None else [ir.AttrInt64("axis", parameters.axis)]
    node = edit.node("DequantizeLinear", inputs, f"{name}_DequantizeLinear", like=reader, attributes=attributes)
    node.outputs[0].dtype = ir.DataType.FLOAT
    node.outputs[0].shape = ir.Shape(integers.shape)
    edit.graph.insert_before(reader, node)
    return node


@dataclass(frozen=True, kw_only=True)
class _Bias:
    """A bias [C] that can be int32: its node, and what its scale is made of.

    Attributes:
        node: Reads it as input `index`.
        value: The float constant.
        input_scale: Of the node's first input.
        weight: Name of the node's weight.

    """

    node: ir.Node
    index: int
    value: ir.Value
    input_scale: Array
    weight: str


def _find_biases(edit: GraphEdit, plan: QuantizationPlan, rules: QuantizationRules) -> list[_Bias]:
    """The biases of the plan's int8 nodes, in the graph's order."""
    found = []
    for node in edit.graph:
        rule = rules.operators.get(node.op_type)
        if plan.nodes.get(node.name or "") is not Precision.INT8 or rule is None:
            continue
        if rule.bias is None or rule.weight is None or rule.bias >= len(node.inputs) or not _is_plain(node):
            continue
        source, weight, value = node.inputs[0], node.inputs[rule.weight], node.inputs[rule.bias]
        if source is None or weight is None or value is None or not edit.is_constant(value):
            continue
        spec = plan.activations.get(source.name or "")
        if spec is None or not _one_per_channel(value, weight, plan):
            continue
        found.append(
            _Bias(
                node=node,
                index=rule.bias,
                value=value,
                input_scale=activation_parameters(spec).scale,
                weight=str(weight.name),
            )
        )
    return found


def _one_per_channel(bias: ir.Value, weight: ir.Value, plan: QuantizationPlan) -> bool:
    """The bias [C] has one number for each scale of the weight; it may broadcast, or the weight be grouped."""
    spec = plan.weights.get(weight.name or "")
    if spec is None or len(bias.shape or ()) != 1:
        return False
    return spec.axis is None or constant_array(bias).size == constant_array(weight).shape[spec.axis]


def _is_plain(node: ir.Node) -> bool:
    """The bias is added as it is; a Gemm may scale it."""
    return node.attributes.get_float("alpha", 1.0) == 1.0 == node.attributes.get_float("beta", 1.0)


def _scale_floors(biases: Sequence[_Bias]) -> Mapping[str, Array]:
    """Per weight the smallest scales, [C] or [1], that let the int32 biases of all its readers fit."""
    floors: dict[str, Array] = {}
    for bias in biases:
        needed = scale_floor(constant_array(bias.value), float(bias.input_scale))
        floors[bias.weight] = np.maximum(floors.get(bias.weight, np.zeros(1)), needed)
    return floors


def _write_bias(edit: GraphEdit, bias: _Bias, weight: QuantizationParameters) -> None:
    """Puts int32 and a DequantizeLinear in place of the float bias, for this node only.

    Another reader has other scales, so it gets integers of its own.
    """
    array = constant_array(bias.value)
    scale = bias_scale(bias.input_scale, weight.scale, len(array))
    parameters = QuantizationParameters(scale=scale, zero_point=np.zeros(len(array), dtype=np.int32), axis=0)
    node = _dequantize(edit, str(bias.value.name), bias_integers(array, scale), parameters, bias.node)
    bias.node.replace_input_with(bias.index, node.outputs[0])
