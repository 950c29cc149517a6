"""The channels of a layer's constants: how large they are, and the layer with each of them scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.recovery.layers import Layer
from edgeport.contracts import Array

__all__ = ["input_magnitudes", "output_magnitudes", "scale_inputs", "scale_outputs"]

Floats = NDArray[np.float64]


def output_magnitudes(layer: Layer, weight: Array) -> Floats:
    """Largest absolute weight of each output channel, [channels]."""
    axis = _output_axis(layer)
    return np.asarray(np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(axis=1), np.float64)


def input_magnitudes(layer: Layer, weight: Array) -> Floats:
    """Largest absolute weight of each input channel, [channels]; of a grouped convolution group after group."""
    grouped = _by_input(layer, weight)
    return np.asarray(np.abs(grouped).max(axis=(1, *range(3, grouped.ndim))).reshape(-1), np.float64)


def scale_outputs(layer: Layer, weight: Array, factors: Floats) -> Array:
    """The weight with each output channel times its factor."""
    shape = [1] * weight.ndim
    shape[_output_axis(layer)] = -1
    return np.asarray(weight * factors.reshape(shape))


def scale_inputs(layer: Layer, weight: Array, factors: Floats) -> Array:
    """The weight with each input channel times its factor."""
    grouped = _by_input(layer, weight)
    shaped = factors.reshape(grouped.shape[0], 1, grouped.shape[2], *([1] * (grouped.ndim - 3)))
    scaled = grouped * shaped
    if _inputs_first(layer):
        return np.asarray(np.moveaxis(scaled[0], 1, 0))
    return np.asarray(scaled.reshape(weight.shape))


def _output_axis(layer: Layer) -> int:
    """Of the weight; a ConvTranspose here has one group."""
    return 1 if _inputs_first(layer) else 0


def _inputs_first(layer: Layer) -> bool:
    node = layer.node
    if node.op_type == "Gemm":
        return not node.attributes.get_int("transB", 0)
    return node.op_type in ("MatMul", "ConvTranspose")


def _by_input(layer: Layer, weight: Array) -> Array:
    """The weight as [groups, outputs of a group, inputs of a group, ...]."""
    if _inputs_first(layer):
        return np.moveaxis(weight, 0, 1)[None]
    group = layer.node.attributes.get_int("group", 1) if layer.node.op_type == "Conv" else 1
    return weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
