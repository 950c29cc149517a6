"""What a range costs: the error of rounding and clipping, expected over a histogram.

Within a bin the values are taken as evenly spread, and the errors are integrated exactly over it, so the result does
not depend on how the bins lie to the steps of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.histogram import BINS, bin_width, left_edges
from edgeport.calibration.ranges.scheme import Grid
from edgeport.contracts import Array

__all__ = ["Density", "density_of", "mean_error", "mean_squared_error", "merged"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Density:
    """The bins of a histogram that are not empty.

    Attributes:
        left: Left edges, ascending, float64 [K].
        width: Of every bin, in the tensor's unit.
        share: Part of all values, float64 [K]; what is missing to 1 is exactly zero.

    """

    left: Floats
    width: float
    share: Floats


def density_of(histogram: Mapping[str, Array]) -> Density:
    """The state of a histogram as a density; empty where nothing was counted.

    In the bin that begins at zero, what is more than in the next one is taken as zeros (a Relu gives many): they are
    on every grid.
    """
    counts = histogram["counts"]
    filled = np.flatnonzero(counts)
    spread = counts.copy()
    spread[BINS // 2] = min(counts[BINS // 2], counts[BINS // 2 + 1])
    share = spread[filled] / max(int(counts.sum()), 1)
    return Density(left=left_edges(histogram)[filled], width=bin_width(histogram), share=share)


def merged(density: Density, bins: int) -> Density:
    """The same values in bins that are `bins` (a power of two) times as wide."""
    width = density.width * bins
    places, which = np.unique(np.floor(density.left / width), return_inverse=True)
    return Density(left=places * width, width=width, share=np.bincount(which, weights=density.share).astype(np.float64))


def mean_squared_error(density: Density, grid: Grid) -> Floats:
    """Expectation of (value - its nearest grid point) ** 2, shaped like the grid."""
    return _expected(density, grid, _squared_until) * grid.step**2


def mean_error(density: Density, grid: Grid) -> Floats:
    """Expectation of value - its nearest grid point, shaped like the grid: what clipping at one end shifts."""
    return _expected(density, grid, _signed_until) * grid.step


def _expected(density: Density, grid: Grid, until: Callable[[Floats, Floats, Floats], Floats]) -> Floats:
    """In units of the step (then no integral overflows or underflows): the mean of the bins' means."""
    step = grid.step[..., None]
    lowest, highest = grid.lowest[..., None] / step, grid.highest[..., None] / step
    left, width = density.left / step, density.width / step
    integral = until(left + width, lowest, highest) - until(left, lowest, highest)
    result: Floats = (integral / width * density.share).sum(axis=-1)
    return result


def _squared_until(at: Floats, lowest: Floats, highest: Floats) -> Floats:
    """Integral of the squared error from 0 to `at`, for steps of 1; grid points are the whole numbers."""
    inside = np.clip(at, lowest, highest)
    whole = np.rint(inside)
    beyond, off = at - inside, inside - whole
    result: Floats = whole / 12.0 + (off * off * off + beyond * beyond * beyond) / 3.0  # a power of 3 is 10x slower
    return result


def _signed_until(at: Floats, lowest: Floats, highest: Floats) -> Floats:
    """Integral of the signed error from 0 to `at`, for steps of 1."""
    inside = np.clip(at, lowest, highest)
    beyond = at - inside
    result: Floats = (inside - np.rint(inside)) ** 2 / 2.0 + beyond**2 / 2.0
    return result
