"""Weights in blocks: integers, a scale and a zero point for every few neighbours. numpy only.

The scheme is that of DequantizeLinear with `block_size` (https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html):
block `i` along the axis holds the values `i * block_size` up to the next, and the last one may be shorter. Values are
rounded to the nearest integer (half to even).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.backends.qdq.quant_params import quantize, weight_parameters
from edgeport.contracts import Array, WeightQuantization
from edgeport.options.precision import integer_limits

__all__ = ["BlockedWeight", "pack_nibbles", "quantize_blocks", "quantize_rows"]


@dataclass(frozen=True, kw_only=True)
class BlockedWeight:
    """A weight [R, L] whose blocks lie along axis 1.

    Attributes:
        integers: int8 or uint8 [R, L], within the limits of their own type, which may be 4 bits wide.
        scale: float32 [R, B], positive.
        zero_point: Like `integers`, [R, B].
        block_size: Values in a block; B is L over it, rounded up.

    """

    integers: Array
    scale: NDArray[np.float32]
    zero_point: Array
    block_size: int


def quantize_blocks(weight: Array, spec: WeightQuantization) -> BlockedWeight:
    """The integers of a weight in blocks.

    Args:
        weight: float32 [A, B].
        spec: With `block_size`; its axis becomes axis 1 of the result.

    """
    size = spec.block_size or 1
    rows = weight if spec.axis in (1, -1) else weight.T
    count, length = rows.shape
    blocks = -(-length // size)
    # Zero is in every range anyway, so zeros behind the last value change none.
    padded = np.pad(rows, ((0, 0), (0, blocks * size - length))).reshape(count * blocks, size)
    integers, scale, zero_point = _rounded(padded, spec)
    return BlockedWeight(
        integers=integers.reshape(count, blocks * size)[:, :length],
        scale=scale.reshape(count, blocks),
        zero_point=zero_point.reshape(count, blocks),
        block_size=size,
    )


def quantize_rows(weight: Array, spec: WeightQuantization, block_size: int) -> BlockedWeight:
    """The integers of a weight with a scale per channel, as blocks that repeat it.

    Args:
        weight: float32 [A, B].
        spec: Without `block_size`; its axis becomes axis 0 of the result.
        block_size: Values in a block.

    """
    rows = weight if spec.axis in (0, -2) else weight.T
    integers, scale, zero_point = _rounded(rows, spec)
    blocks = -(-rows.shape[1] // block_size)
    return BlockedWeight(
        integers=integers,
        scale=np.repeat(scale[:, None], blocks, axis=1),
        zero_point=np.repeat(zero_point[:, None], blocks, axis=1),
        block_size=block_size,
    )


def pack_nibbles(integers: Array) -> NDArray[np.uint8]:
    """Two numbers of 4 bits in a byte, the first in its lower half; an odd row ends with a zero.

    Args:
        integers: [..., L], signed or unsigned.

    Returns:
        [..., L over 2, rounded up].

    """
    odd = integers.shape[-1] % 2
    halves = np.pad(integers, [(0, 0)] * (integers.ndim - 1) + [(0, odd)]).astype(np.uint8) & 0xF
    return (halves[..., 0::2] | (halves[..., 1::2] << 4)).astype(np.uint8)


def _rounded(rows: Array, spec: WeightQuantization) -> tuple[Array, NDArray[np.float32], Array]:
    """Integers [R, L], scales [R] and zero points [R], each row for itself."""
    wide: dict[str, str] = {"int4": "int8", "uint4": "uint8"}
    plain = WeightQuantization(dtype=spec.dtype, axis=0, symmetric=spec.symmetric)
    parameters = weight_parameters(rows, plain, stored=wide.get(spec.dtype, spec.dtype))
    low, high = integer_limits(spec.dtype)
    integers: Array = np.clip(quantize(rows, parameters), low, high)
    return integers, parameters.scale, parameters.zero_point
