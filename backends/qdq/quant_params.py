"""Scales and zero points from ranges, and the integers, or floats of 8 bits, that they give. numpy only.

`quantize` and `dequantize` compute what the ONNX operators QuantizeLinear and DequantizeLinear are specified to
(https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html): q = saturate(round_half_even(x / scale) + zero_point).
The affine scheme, with a zero that is always exact, is that of Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR 2018), section 2.1.

Floats of 8 bits are E4M3: the largest is 448, there is no Inf, and a scale brings the largest value of the range there
(Micikevicius et al., "FP8 Formats for Deep Learning", 2022). They have no zero point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import ActivationQuantization, Array, QuantizedDtype, WeightQuantization
from edgeport.contracts.plan import integer_limits

__all__ = [
    "FLOAT8",
    "REDUCED_LIMIT",
    "QuantizationParameters",
    "activation_parameters",
    "dequantize",
    "quantize",
    "weight_parameters",
]

SMALLEST_SCALE = 2.0**-60
"""The product of two of them (a bias scale) is still a normal float32, which no processor flushes to zero."""

FLOAT8 = np.dtype(ml_dtypes.float8_e4m3fn)

REDUCED_LIMIT = 64
"""Largest weight of a reduced range: 255 * 64 * 2 = 32640, so a sum of two u8*s8 products fits 16 bits."""


@dataclass(frozen=True, kw_only=True)
class QuantizationParameters:
    """How numbers map to integers.

    Attributes:
        scale: float32, positive; shape [] or, with an axis, [C].
        zero_point: The number that 0.0 maps to; of the quantized dtype, shaped like `scale`.
        axis: Axis that `scale` runs along, not negative; None for one scale in all.

    """

    scale: NDArray[np.float32]
    zero_point: Array
    axis: int | None = None


def activation_parameters(spec: ActivationQuantization) -> QuantizationParameters:
    """Scale and zero point of an activation.

    The range is widened to hold zero, which maps to an integer exactly. An empty range gets the scale 1.
    """
    low, high = integer_limits(spec.dtype)
    minimum, maximum = min(spec.minimum, 0.0), max(spec.maximum, 0.0)
    if spec.symmetric:
        middle = _middle(spec.dtype)
        scale = _scales(np.asarray(max(-minimum, maximum) / (high - middle)))
        zero_point = middle
    else:
        scale = _scales(np.asarray((maximum - minimum) / (high - low)))
        zero_point = int(np.clip(np.rint(low - minimum / float(scale)), low, high))
    return QuantizationParameters(scale=scale, zero_point=np.asarray(zero_point, dtype=_numpy(spec.dtype)))


def weight_parameters(
    weight: Array, spec: WeightQuantization, *, floor: Array | float = 0.0, stored: str | None = None
) -> QuantizationParameters:
    """Scale and zero point of a weight, from the weight itself.

    Args:
        weight: float32, any shape.
        spec: Scheme; `axis` may be negative.
        floor: Smallest scale to use, [] or [C]: what the bias needs (see `bias.scale_floor`).
        stored: numpy's type of the zero points; needed where numpy has not the type of `spec`.

    """
    axis = None if spec.axis is None else spec.axis % weight.ndim
    others = tuple(i for i in range(weight.ndim) if i != axis)
    low, high = integer_limits(spec.dtype)
    # Where nothing is to be reduced over (an empty weight), zero is the range.
    minimum = weight.min(axis=others, initial=0.0).astype(np.float64)
    maximum = weight.max(axis=others, initial=0.0).astype(np.float64)
    if axis is None:
        floor = np.max(floor)
    if spec.symmetric:
        middle = _middle(spec.dtype)
        reach = REDUCED_LIMIT if spec.reduce_range else high - middle
        scale = _scales(_stepped(np.maximum(np.maximum(-minimum, maximum) / reach, floor), spec))
        zero_point = np.full(scale.shape, middle, dtype=stored or _numpy(spec.dtype))
    else:
        steps = (high - low) // 2 if spec.reduce_range else high - low
        scale = _scales(_stepped(np.maximum((maximum - minimum) / steps, floor), spec))
        zero_point = np.clip(np.rint(low - minimum / scale), low, high).astype(stored or _numpy(spec.dtype))
    return QuantizationParameters(scale=scale, zero_point=zero_point, axis=axis)


def quantize(array: Array, parameters: QuantizationParameters) -> Array:
    """The integers of `array`, or its floats of 8 bits: rounded half to even, saturated; of the zero point's dtype."""
    scale, zero_point = _aligned(parameters, array.ndim)
    if parameters.zero_point.dtype == FLOAT8:
        largest = integer_limits("float8e4m3fn")[1]
        narrow: Array = np.clip(array.astype(np.float32) / scale, -largest, largest).astype(FLOAT8)
        return narrow
    limits = np.iinfo(parameters.zero_point.dtype)
    integers = np.asarray(array.astype(np.float32, copy=False) / scale)
    np.rint(integers, out=integers)
    if limits.bits > 8 or zero_point.any():  # else float32 has all that is not cut off, in half the memory
        integers = np.asarray(integers.astype(np.float64) + zero_point)
    result: Array = np.clip(integers, limits.min, limits.max, out=integers).astype(parameters.zero_point.dtype)
    return result


def dequantize(integers: Array, parameters: QuantizationParameters) -> NDArray[np.float32]:
    """The numbers that the integers, or floats of 8 bits, stand for, float32."""
    scale, zero_point = _aligned(parameters, integers.ndim)
    if integers.dtype == FLOAT8:
        return integers.astype(np.float32) * scale
    return ((integers.astype(np.int64) - zero_point) * scale).astype(np.float32)


def _numpy(dtype: QuantizedDtype) -> np.dtype[Any]:
    return FLOAT8 if dtype == "float8e4m3fn" else np.dtype(dtype)


def _aligned(parameters: QuantizationParameters, ndim: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scale and zero point in a shape that broadcasts against an array of `ndim` axes."""
    shape = [1] * ndim
    if parameters.axis is not None:
        shape[parameters.axis] = -1
    zero_point = parameters.zero_point.astype(np.int64)
    return parameters.scale.reshape(shape), zero_point.reshape(shape)


def _stepped(scale: Array, spec: WeightQuantization) -> Array:
    """The scale, or the power of two that is not below it."""
    if not spec.power_of_two:
        return scale
    mantissa, exponent = np.frexp(scale)  # 0.5 <= mantissa < 1, or 0
    return np.where(scale > 0, np.ldexp(1.0, exponent - (mantissa == 0.5)), scale)


def _scales(scale: Array) -> NDArray[np.float32]:
    """As float32 and normal numbers; a scale of zero (an empty range) becomes 1."""
    narrow = np.minimum(scale, np.finfo(np.float32).max).astype(np.float32)
    usable = np.maximum(narrow, np.float32(SMALLEST_SCALE))
    return np.where(scale == 0, np.float32(1), usable).astype(np.float32)


def _middle(dtype: QuantizedDtype) -> int:
    """Zero point of a symmetric scheme: 0, or 128 in uint8."""
    low, high = integer_limits(dtype)
    return 0 if low < 0 else (high + 1) // 2
