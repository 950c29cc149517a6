"""Ranges of least expected squared error on a histogram, for the grid that the dialect makes of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.ranges.ends import NOTHING_FINITE
from edgeport.calibration.ranges.error import density_of, mean_squared_error, merged
from edgeport.calibration.ranges.methods import LeastSquares, PowerOfTwo
from edgeport.calibration.ranges.scheme import Scheme, grid_of
from edgeport.calibration.ranges.seen import extremes_of, state_of
from edgeport.contracts import TensorStatistics

__all__ = ["cover_by_power_of_two", "least_squares", "power_of_two"]

Floats = NDArray[np.float64]

_COARSE = np.geomspace(1.0, 2.0**-10, 81)
"""Parts of the full range, 8 % apart: outliers may be a thousand times larger than all else."""
_FINE = np.linspace(0.92, 1.08, 17)
"""Around the best of those, 1 % apart."""
_MERGED = 4
"""Bins that are one in the first look."""
_ROUNDS = 3
_DEEPEST = 8
"""Powers of two below the one that covers everything: 256 times fewer is beyond any sensible clipping."""
_ZERO_POINTS = 33
"""So many are tried for each step."""


def least_squares(method: LeastSquares, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """Both ends by coordinate descent, first together, then in turn; first coarse, then fine.

    Symmetric schemes have one threshold; where all values have one sign, there is one end.
    """
    del method
    smallest, largest = extremes_of(statistics)
    density = density_of(state_of(statistics, "histogram"))
    if not density.share.size:
        return NOTHING_FINITE

    rough = merged(density, _MERGED)
    bottom, top = min(smallest, 0.0), max(largest, 0.0)
    if scheme.symmetric:
        reach = max(-bottom, top)
        bottom, top = -reach, reach

    def cost(lower: Floats | float, upper: Floats | float, *, fine: bool) -> Floats:
        grid = grid_of(scheme, np.multiply(lower, bottom), np.multiply(upper, top))
        return mean_squared_error(density if fine else rough, grid)

    both = _search(lambda part, fine: cost(part, part, fine=fine))
    if scheme.symmetric or not bottom < 0.0 < top:
        return both * bottom, both * top
    lower, upper = _in_turn(cost, both)
    return lower * bottom, upper * top


class _Cost(Protocol):
    def __call__(self, lower: Floats | float, upper: Floats | float, *, fine: bool) -> Floats: ...


def _in_turn(cost: _Cost, both: float) -> tuple[float, float]:
    """Parts of the two ends, from one part for both."""
    lower = upper = both
    for _ in range(_ROUNDS):
        before = lower, upper
        upper = _search(partial(lambda kept, part, fine: cost(kept, part, fine=fine), lower))
        lower = _search(partial(lambda kept, part, fine: cost(part, kept, fine=fine), upper))
        if (lower, upper) == before:
            break
    return lower, upper


class _PartCost(Protocol):
    def __call__(self, part: Floats, fine: bool) -> Floats: ...


def _search(cost: _PartCost) -> float:
    """The part of the full range, at most 1, with the least cost; of equal ones the largest.

    Args:
        cost: Parts [C], and whether the histogram's own bins count or merged ones, to costs [C].

    """
    coarse = float(_COARSE[np.argmin(cost(_COARSE, fine=False))])
    fine = np.unique(np.minimum(coarse * _FINE, 1.0))[::-1]
    return float(fine[np.argmin(cost(fine, fine=True))])


def power_of_two(method: PowerOfTwo, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The ends of the grid with the best power of two as its step, and the best zero point to it."""
    del method
    smallest, largest = extremes_of(statistics)
    density = density_of(state_of(statistics, "histogram"))
    if not density.share.size:
        return NOTHING_FINITE
    candidates = [cover_by_power_of_two(scheme, smallest, largest)]
    step = float(grid_of(scheme, *candidates[0]).step)
    for below in range(1, _DEEPEST + 1):
        candidates += _ends_at(math.ldexp(step, -below), scheme, smallest, largest)
    low, high = np.array(candidates).T
    best = int(np.argmin(mean_squared_error(merged(density, _MERGED), grid_of(scheme, low, high))))
    return candidates[best]


def cover_by_power_of_two(scheme: Scheme, low: float, high: float) -> tuple[float, float]:
    """The ends of the grid with the smallest power of two as its step that holds the whole range."""
    bottom, top = min(low, 0.0), max(high, 0.0)
    span = float(grid_of(scheme, bottom, top).step)
    if bottom == top:
        return 0.0, 0.0
    exponent = math.ceil(math.log2(span))
    while True:
        step = math.ldexp(1.0, exponent)
        first, last = scheme.limits
        zero = scheme.middle if scheme.symmetric else min(first + math.ceil(-bottom / step), last)
        ends = _ends(step, zero, scheme)
        # The rounded zero point can cost a step at the other end, and log2 is not exact at whole powers.
        if ends[0] <= bottom and top <= ends[1]:
            return ends
        exponent += 1


def _ends_at(step: float, scheme: Scheme, smallest: float, largest: float) -> list[tuple[float, float]]:
    """Grids of one step, from the one that clips only large values to the one that clips only small ones."""
    if scheme.symmetric:
        return [_ends(step, scheme.middle, scheme)]
    first, last = scheme.limits
    at_most = min(first + math.ceil(-min(smallest, 0.0) / step), last)
    at_least = min(max(last - math.ceil(max(largest, 0.0) / step), first), at_most)
    zeros = np.unique(np.linspace(at_least, at_most, _ZERO_POINTS).round().astype(int))
    return [_ends(step, int(zero), scheme) for zero in zeros]


def _ends(step: float, zero: int, scheme: Scheme) -> tuple[float, float]:
    """The range of which a dialect makes this step and zero point; a symmetric one is as long on both sides."""
    first, last = scheme.limits
    high = (last - zero) * step
    return (-high if scheme.symmetric else (first - zero) * step), high
