"""How errors of a tensor come through at the outputs of the nodes that read it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeport.calibration.graph import is_default_domain
from edgeport.calibration.integer_nodes import weight_axis, weight_of
from edgeport.contracts import QuantizationRules

__all__ = ["bias_weight"]

_POOLING = frozenset({"GlobalAveragePool", "ReduceMean"})


def bias_weight(value: ir.Value, rules: QuantizationRules) -> float:
    """How much the mean of the error of `value` counts against its variance, averaged over its readers.

    At an output that is the sum over k of w_k * e_k, the mean comes through by (sum w)**2, the variance by sum w**2:
    1 for a reader that takes one value, n for one that averages n values, and for a convolution whatever its weights
    give, averaged over output channels. See `ranges/automatic.py`.
    """
    ratios = [_ratio(use.node, value, rules) for use in value.uses()]
    return float(np.mean(ratios)) if ratios else 1.0


def _ratio(node: ir.Node, value: ir.Value, rules: QuantizationRules) -> float:
    if not is_default_domain(node):
        return 1.0
    if node.op_type in _POOLING:
        return _averaged(node, value)
    rule = rules.operators.get(node.op_type)
    weight = weight_of(node, rule) if rule is not None else None
    if rule is None or weight is None or weight.const_value is None:
        return 1.0
    array = weight.const_value.numpy().astype(np.float64)
    axis = weight_axis(node, rule)
    others = tuple(index for index in range(array.ndim) if index != axis)
    noise = float((array**2).sum(axis=others).mean())
    bias = float((array.sum(axis=others) ** 2).mean())
    return bias / noise if noise > 0.0 else 1.0


def _averaged(node: ir.Node, value: ir.Value) -> float:
    """Values in one mean, as far as shapes are known."""
    into = node.outputs[0].shape
    if value.shape is None or into is None:
        return 1.0
    sizes = [math.prod(size for size in shape if isinstance(size, int)) for shape in (value.shape, into)]
    return max(sizes[0] / max(sizes[1], 1), 1.0)
