"""Biases as int32.

The runtime adds the bias to the integer sums, so its scale is the input's times the weight's, and its zero point 0
(Jacob et al., CVPR 2018, section 2.4). A channel with tiny weights would need integers beyond 32 bits; there the
weight's scale is raised, which costs that channel a resolution that its bias makes invisible anyway.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Array

__all__ = ["LARGEST_BIAS", "bias_integers", "bias_scale", "scale_floor"]

LARGEST_BIAS = 2**30
"""Half of what int32 holds; the other half is left to the sum of products."""


def scale_floor(bias: Array, input_scale: float) -> NDArray[np.float64]:
    """Smallest weight scale [C] with which every bias [C] fits; 0 where the bias is 0."""
    return np.abs(bias.astype(np.float64)) / (input_scale * LARGEST_BIAS)


def bias_scale(
    input_scale: NDArray[np.float32], weight_scale: NDArray[np.float32], channels: int
) -> NDArray[np.float32]:
    """Scales [channels] of a bias: input times weight, in float32 as the runtime computes them."""
    return np.broadcast_to(input_scale * weight_scale, (channels,)).astype(np.float32)


def bias_integers(bias: Array, scale: NDArray[np.float32]) -> NDArray[np.int32]:
    """The integers [C] of a bias [C]."""
    limits = np.iinfo(np.int32)
    return np.clip(np.rint(bias.astype(np.float64) / scale), limits.min, limits.max).astype(np.int32)
