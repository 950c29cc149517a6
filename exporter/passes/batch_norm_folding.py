"""Batch norms become part of the weights before them.

onnxscript's own rule gives the folded node the batch norm's name and metadata, and leaves weights that two
layers share alone; quantization needs them folded, and named after the layer that holds the weight.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeport.contracts import Array
from edgeport.exporter.passes.initializers import constant_array, drop_unused, register, unused_name

__all__ = ["fold_batch_norms"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm")

_BIAS = 2
"""Index of the input, in all of them."""


def fold_batch_norms(model: ir.Model) -> int:
    """Folds BatchNormalization into the Conv, ConvTranspose or Gemm before it, in float64.

    y = (W x + b - mean) * s + beta with s = gamma / sqrt(var + epsilon), so W' = W * s per output channel and
    b' = (b - mean) * s + beta (Jacob et al., 2018, section 3.2). Shared weights get a copy of their own.

    Args:
        model: Changed in place.

    Returns:
        How many were folded.

    """
    return sum(_fold(model.graph, node) for node in list(model.graph) if node.op_type == "BatchNormalization")


def _fold(graph: ir.Graph, norm: ir.Node) -> bool:
    source = norm.inputs[0]
    layer = source.producer() if source is not None else None
    if source is None or layer is None or layer.op_type not in _WEIGHTED or layer.domain not in ("", "ai.onnx"):
        return False
    training = norm.attributes.get("training_mode")
    alone = len(source.uses()) == 1 and not source.is_graph_output()
    if not alone or len(norm.outputs) != 1 or (training is not None and training.as_int() != 0):
        return False
    constants = [constant_array(value) for value in (layer.inputs[1], *norm.inputs[1:])]
    bias_value = layer.inputs[_BIAS] if len(layer.inputs) > _BIAS else None
    bias = constant_array(bias_value)
    if any(constant is None for constant in constants) or (bias_value is not None and bias is None):
        return False
    weight, gamma, beta, mean, variance = (np.asarray(constant) for constant in constants)
    epsilon = norm.attributes.get("epsilon")
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + (epsilon.as_float() if epsilon else 1e-5))
    factors = _bias_factors(layer)
    offset = np.zeros_like(scale) if bias is None else np.asarray(bias).astype(np.float64) * factors
    _put(graph, layer, 1, _scaled(layer, weight, scale).astype(weight.dtype))
    _put(graph, layer, _BIAS, ((offset - mean) * scale + beta).astype(weight.dtype))
    if "beta" in layer.attributes:
        del layer.attributes["beta"]  # It is in the bias now.
    _replace(graph, norm, layer.outputs[0])
    return True


def _bias_factors(layer: ir.Node) -> float:
    beta = layer.attributes.get("beta")
    return beta.as_float() if beta is not None and layer.op_type == "Gemm" else 1.0


def _scaled(layer: ir.Node, weight: Array, scale: Array) -> Array:
    """Weight in float64, each output channel times its scale."""
    wide = weight.astype(np.float64)
    if layer.op_type == "Conv":  # [out, in / group, ...]
        return np.asarray(wide * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if layer.op_type == "Gemm":  # [out, in] where transposed, else [in, out]
        transposed = layer.attributes.get("transB")
        return np.asarray(wide * (scale[:, None] if transposed is not None and transposed.as_int() else scale[None, :]))
    # ConvTranspose: [in, out / group, ...]; the inputs of one group are neighbours.
    group_attribute = layer.attributes.get("group")
    groups = group_attribute.as_int() if group_attribute is not None else 1
    grouped = wide.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    per_group = scale.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    return np.asarray((grouped * per_group).reshape(weight.shape))


def _put(graph: ir.Graph, layer: ir.Node, index: int, array: Array) -> None:
    """Gives the layer an initializer of its own; the old one stays only where others use it."""
    old = layer.inputs[index] if len(layer.inputs) > index else None
    name = (old.name if old is not None else None) or ""
    if index == _BIAS and not name.endswith(".bias"):  # none, or the zeros that torch.onnx writes for none
        weight = layer.inputs[1]
        name = f"{((weight.name if weight is not None else None) or '').removesuffix('.weight')}.bias"
    elif old is not None and len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.tensor(array, name=old.name)
        return
    value = register(graph, unused_name(graph, name), array)
    if len(layer.inputs) <= index:
        layer.resize_inputs(index + 1)
    layer.replace_input_with(index, value)
    if old is not None:
        drop_unused(graph, old)


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Takes the node out; its only output becomes `value`."""
    result = node.outputs[0]
    value.shape, value.type = result.shape or value.shape, result.type or value.type
    is_output, name = result.is_graph_output(), result.name
    result.replace_all_uses_with(value, replace_graph_outputs=True)
    if is_output:
        result.name = f"{name}.folded"
        value.name = name
    inputs = list(node.inputs)
    graph.remove(node, safe=True)
    for each in inputs:
        if each is not None:
            drop_unused(graph, each)
