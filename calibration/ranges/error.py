"""What a range costs: the error of rounding and clipping, expected over a histogram.

Within a bin the values are taken as evenly spread, and the errors are integrated exactly over it, so the result does
not depend on how the bins lie to the steps of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.histogram import BINS, bin_width
from edgeport.calibration.ranges.grid import Grid
from edgeport.contracts import Array

__all__ = ["Density", "clipping_error", "density_of", "mean_error", "mean_squared_error"]

Floats = NDArray[np.float64]

_AT_ONCE = 12288
"""Values in one array: larger ones are memory that the system hands out anew each time, which takes five times as long.
"""


@dataclass(frozen=True, kw_only=True)
class Density:
    """A histogram as a function that is constant within each bin, and changes at edges; zero everywhere if it has none.

    Attributes:
        edges: Where it changes, ascending, float64 [K].
        drop: By how much it falls there, as part of all values that are in a bin, float64 [K]; what is missing to 1 in
            all bins is exactly zero.
        width: Of every bin, in the tensor's unit.

    """

    edges: Floats
    drop: Floats
    width: float


def density_of(histogram: Mapping[str, Array], *, merged: int = 1) -> Density:
    """The state of a histogram as a density.

    In the bin that begins at zero, what is more than in the next one is taken as zeros (a Relu gives many): they are
    on every grid.

    Args:
        histogram: The state.
        merged: So many bins, a power of two, are one.

    """
    counts = histogram["counts"]
    spread = counts.astype(np.float64)
    spread[BINS // 2] = min(counts[BINS // 2], counts[BINS // 2 + 1])
    share = spread.reshape(-1, merged).sum(axis=1) / max(int(counts.sum()), 1)
    drop = -np.diff(share, prepend=0.0, append=0.0)
    changes = np.flatnonzero(drop)
    width = bin_width(histogram) * merged
    return Density(edges=(changes - share.size // 2) * width, drop=drop[changes], width=width)


def mean_squared_error(density: Density, grid: Grid) -> Floats:
    """Expectation of (value - its nearest grid point) ** 2, shaped like the grid."""
    return _expected(density, grid, _squared_until) * grid.step**2


def mean_error(density: Density, grid: Grid) -> Floats:
    """Expectation of value - its nearest grid point, shaped like the grid: what clipping at one end shifts."""
    return _expected(density, grid, _signed_until) * grid.step


def clipping_error(density: Density, grid: Grid) -> Floats:
    """The part of `mean_squared_error` that is of values beyond the grid, shaped like the grid; [C] at most.

    The density is the sum of all drops further out, so this is the sum of drop * distance ** 3 / 3 over them, which
    four sums up to each edge give: it costs next to nothing.
    """
    if not density.edges.size:
        return np.zeros(grid.step.shape)
    unit = float(np.abs(density.edges).max())
    edges, drop = density.edges / unit, density.drop
    upper = _beyond(edges, drop, grid.highest / unit)
    lower = _beyond(-edges[::-1], -drop[::-1], -grid.lowest / unit)
    result: Floats = (upper + lower) / 3.0 * (unit / density.width) * unit**2
    return result


def _beyond(edges: Floats, drop: Floats, end: Floats) -> Floats:
    """Sum of drop * (edge - end) ** 3 over the edges above each end."""
    sums = [np.append(np.cumsum((drop * edges**power)[::-1])[::-1], 0.0) for power in range(4)]
    first = np.searchsorted(edges, end, side="right")
    none, one, two, three = (each[first] for each in sums)
    result: Floats = three - end * (3.0 * two - end * (3.0 * one - end * none))
    return result


def _expected(density: Density, grid: Grid, until: Callable[[Floats, Floats, Floats], Floats]) -> Floats:
    """In units of the step (then no integral overflows or underflows): the mean of the bins' means.

    Of the integral from 0 to both edges of every bin, times its share, as one sum over the edges.
    """
    flat = [np.atleast_1d(each)[:, None] for each in (grid.step, grid.lowest, grid.highest)]
    sums = np.empty(len(flat[0]))
    rows = max(1, _AT_ONCE // max(density.edges.size, 1))
    for start in range(0, sums.size, rows):
        step, lowest, highest = (each[start : start + rows] for each in flat)
        sums[start : start + rows] = until(density.edges / step, lowest / step, highest / step) @ density.drop
    result: Floats = sums.reshape(grid.step.shape) * (grid.step / density.width)
    return result


def _squared_until(at: Floats, lowest: Floats, highest: Floats) -> Floats:
    """Integral of the squared error from 0 to `at`, for steps of 1; grid points are the whole numbers."""
    inside = np.minimum(np.maximum(at, lowest), highest)
    whole = np.rint(inside)
    beyond, off = at - inside, np.subtract(inside, whole, out=inside)
    cubes = off * off
    cubes *= off  # a power of 3 is 10x slower
    cube = beyond * beyond
    cube *= beyond
    cubes += cube
    cubes /= 3.0
    whole /= 12.0
    cubes += whole
    return cubes


def _signed_until(at: Floats, lowest: Floats, highest: Floats) -> Floats:
    """Integral of the signed error from 0 to `at`, for steps of 1."""
    inside = np.clip(at, lowest, highest)
    beyond = at - inside
    result: Floats = (inside - np.rint(inside)) ** 2 / 2.0 + beyond**2 / 2.0
    return result
