"""The integers that a range is for, and the numbers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeport.contracts import QuantizedDtype
from edgeport.contracts.plan import integer_limits

__all__ = ["Grid", "Scheme", "grid_of"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The integers that the range is for; methods that weigh rounding against clipping need to know.

    Attributes:
        dtype: Integer type.
        symmetric: The zero point is its middle.

    """

    dtype: QuantizedDtype = "uint8"
    symmetric: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        return integer_limits(self.dtype)

    @property
    def middle(self) -> int:
        """Zero point of the symmetric scheme: 0, or 128 in uint8."""
        low, high = self.limits
        return 0 if low < 0 else (high + 1) // 2


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The numbers that integers stand for: `step` apart, from `lowest` to `highest`, zero among them.

    All three are float64 of one shape: one grid or many.
    """

    step: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


def grid_of(scheme: Scheme, low: ArrayLike, high: ArrayLike) -> Grid:
    """The grid that a dialect makes of a range: widened to hold zero, the zero point rounded to an integer.

    The affine scheme of Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference" (CVPR 2018), section 2.1.

    Args:
        scheme: Its integers.
        low: Lower end of one range, or of many.
        high: Upper end; the two broadcast.

    """
    bottom = np.minimum(np.asarray(low, np.float64), 0.0)
    top = np.maximum(np.asarray(high, np.float64), 0.0)
    first, last = scheme.limits
    if scheme.symmetric:
        step = np.maximum(-bottom, top) / (last - scheme.middle)
        zero = np.full(step.shape, float(scheme.middle))
    else:
        step = (top - bottom) / (last - first)
        zero = first - np.divide(bottom, step, out=np.zeros(step.shape), where=step > 0)
        zero = np.clip(np.rint(zero), first, last)
    step = np.where(step > 0, step, 1.0)
    return Grid(step=step, lowest=(first - zero) * step, highest=(last - zero) * step)
