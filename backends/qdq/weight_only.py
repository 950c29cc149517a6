"""Weights as integers with nothing said of activations: a DequantizeLinear before a float node.

Blocks need the form of DequantizeLinear that opset 21 brought, and its 4-bit types.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.backends.qdq.blocks import quantize_blocks
from edgeport.backends.qdq.graph import GraphEdit
from edgeport.backends.qdq.quant_params import quantize, weight_parameters
from edgeport.backends.qdq.weights import constant_array
from edgeport.contracts import Array, QuantizationPlan, QuantizationRules, QuantizedDtype, WeightQuantization
from edgeport.errors import PlanError

__all__ = ["raise_opset", "weight_only_uses", "write_weight_only"]

BLOCK_OPSET = 21
"""DequantizeLinear has `block_size`, and 4-bit types, from here on."""

_LOWEST = 18
_CHANGED = ("DFT", "GridSample", "GroupNormalization")
"""Operators to whose meaning something was done between the opsets 18 and 21 (https://onnx.ai/onnx/operators/)."""


def write_weight_only(edit: GraphEdit, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    """Puts integers and a DequantizeLinear in place of every weight that alone is planned as integers.

    A float node, or one with other weights, that reads the same constant keeps the float one.
    """
    for name, uses in weight_only_uses(edit, plan, rules).items():
        value, spec = edit.values[name], plan.weights[name]
        readers = {reader for reader, _ in uses}
        first = next(node for node in edit.graph if node in readers)
        node = _dequantize(edit, name, constant_array(value), spec, first)
        for reader, index in uses:
            reader.replace_input_with(index, node.outputs[0])
        edit.drop_if_unused(value)


def weight_only_uses(
    edit: GraphEdit, plan: QuantizationPlan, rules: QuantizationRules
) -> dict[str, list[tuple[ir.Node, int]]]:
    """Name of a weight to the nodes, and their inputs, that read it and have integer weights alone; in their order."""
    found: dict[str, list[tuple[ir.Node, int]]] = {}
    for node in edit.graph:
        precision = plan.nodes.get(node.name or "")
        if precision is None or precision.weight_form is None:
            continue
        index = rules.weight_operators[node.op_type]
        value = node.inputs[index]
        found.setdefault(str(value.name) if value is not None else "", []).append((node, index))
    return found


def raise_opset(model: ir.Model, plan: QuantizationPlan) -> None:
    """Makes the model one of opset 21 where the plan has weights in blocks, in place.

    From opset 18 on nothing has to be rewritten for it, three operators apart.

    Raises:
        PlanError: A model with one of these, or of an older opset.

    """
    opset = model.opset_imports.get("", 0)
    if opset >= BLOCK_OPSET or all(spec.block_size is None for spec in plan.weights.values()):
        return
    changed = [node for node in model.graph.all_nodes() if node.op_type in _CHANGED and node.domain == ""]
    if changed or opset < _LOWEST:
        what = f"node {changed[0].name!r} ({changed[0].op_type})" if changed else "operators"
        raise PlanError(
            asked="store weights in blocks",
            found=f"a model of opset {opset}, with {what} of another meaning in opset {BLOCK_OPSET}",
            fix=f"export the model with opset {BLOCK_OPSET}, or take int8-weights",
        )
    model.opset_imports[""] = BLOCK_OPSET
    for function in model.functions.values():
        if "" in function.opset_imports:
            function.opset_imports[""] = BLOCK_OPSET


def _dequantize(edit: GraphEdit, name: str, array: Array, spec: WeightQuantization, reader: ir.Node) -> ir.Node:
    """A DequantizeLinear of constants, right before `reader`."""
    attributes = [ir.AttrInt64("axis", spec.axis if spec.axis is not None else 1)]
    if spec.block_size is None:
        parameters = weight_parameters(array, spec)
        integers, scale, zero_point = quantize(array, parameters), parameters.scale, parameters.zero_point
    else:
        blocks = quantize_blocks(array, spec)
        integers, scale, zero_point = blocks.integers, blocks.scale, blocks.zero_point
        if spec.axis == 0:
            integers, scale, zero_point = integers.T, scale.T, zero_point.T
        attributes.append(ir.AttrInt64("block_size", spec.block_size))
    inputs = [
        edit.constant(f"{name}_quantized", _typed(integers, spec.dtype)),
        edit.constant(f"{name}_scale", scale),
    ]
    if not spec.symmetric:
        inputs.append(edit.constant(f"{name}_zero_point", _typed(zero_point, spec.dtype)))
    node = edit.node("DequantizeLinear", inputs, f"{name}_DequantizeLinear", like=reader, attributes=attributes)
    node.outputs[0].dtype = ir.DataType.FLOAT
    node.outputs[0].shape = ir.Shape(array.shape)
    edit.graph.insert_before(reader, node)
    return node


def _typed(integers: Array, dtype: QuantizedDtype) -> Array:
    """In ONNX's own type, which numpy may not have."""
    return np.ascontiguousarray(integers).astype(ir.DataType[dtype.upper()].numpy())
