"""Ranges of least expected squared error on a histogram, for the grid that the dialect makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.ranges.error import clipping_error, density_of, mean_squared_error
from edgeport.calibration.ranges.extremes import NOTHING_FINITE
from edgeport.calibration.ranges.grid import Grid, Scheme, grid_of
from edgeport.calibration.ranges.methods import LeastSquares, PowerOfTwo
from edgeport.calibration.ranges.observer_state import extremes_of, state_of
from edgeport.contracts import TensorStatistics

__all__ = ["cover_by_power_of_two", "least_squares", "power_of_two"]

Floats = NDArray[np.float64]
_Grids = Callable[[Floats | float, Floats | float], Grid]
"""Parts of the lower end, and of the upper one, to grids."""

_COARSE = np.geomspace(1.0, 2.0**-10, 81)
"""Parts of the full range, 8 % apart: outliers may be a thousand times larger than all else."""
_FINE = np.linspace(0.92, 1.08, 17)
"""Around the best of those, 1 % apart."""
_MERGED = 4
"""Bins that are one in the first look."""
_AT_ONCE = 9
"""Ranges that are tried before those are left out that clip too much, whatever they round."""
_ROUNDED = 1e-6
"""By so much, relatively, what is known of clipping may be too large."""
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
    state = state_of(statistics, "histogram")
    if not state["counts"].any():
        return NOTHING_FINITE
    density, rough = density_of(state), density_of(state, merged=_MERGED)
    bottom, top = min(smallest, 0.0), max(largest, 0.0)
    if scheme.symmetric:
        reach = max(-bottom, top)
        bottom, top = -reach, reach

    def grids(lower: Floats | float, upper: Floats | float) -> Grid:
        return grid_of(scheme, np.multiply(lower, bottom), np.multiply(upper, top))

    def search(ends: Callable[[Floats], Grid]) -> float:
        return _search(
            lambda parts: mean_squared_error(rough, ends(parts)),
            lambda parts: clipping_error(rough, ends(parts)),
            lambda parts: mean_squared_error(density, ends(parts)),
        )

    both = search(lambda parts: grids(parts, parts))
    if scheme.symmetric or not bottom < 0.0 < top:
        return both * bottom, both * top
    lower, upper = _in_turn(search, grids, both)
    return lower * bottom, upper * top


def _in_turn(search: Callable[[Callable[[Floats], Grid]], float], grids: _Grids, both: float) -> tuple[float, float]:
    """Parts of the two ends, from one part for both: each is searched while the other stays, until neither changes."""
    lower = upper = both
    for turn in range(_ROUNDS):
        before = upper
        upper = search(partial(grids, lower))
        if turn and upper == before:
            break  # the lower one was found for this one
        before = lower
        lower = search(partial(_upper_first, grids, upper))
        if lower == before:
            break
    return lower, upper


def _upper_first(grids: _Grids, upper: float, lower: Floats) -> Grid:
    return grids(lower, upper)


def _search(
    cost: Callable[[Floats], Floats], at_least: Callable[[Floats], Floats], fine_cost: Callable[[Floats], Floats]
) -> float:
    """The part of the full range, at most 1, with the least cost; of equal ones the largest.

    Args:
        cost: Parts [C] to costs [C], on merged bins.
        at_least: The same, no more than those.
        fine_cost: The same, on the histogram's own bins.

    """
    found, least = 1.0, math.inf
    floor = at_least(_COARSE) * (1.0 - _ROUNDED)
    for start in range(0, _COARSE.size, _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        parts = _COARSE[block][floor[block] < least]
        if parts.size:
            costs = cost(parts)
            best = int(np.argmin(costs))
            if costs[best] < least:
                found, least = float(parts[best]), float(costs[best])
    fine = np.unique(np.minimum(found * _FINE, 1.0))[::-1]
    return float(fine[np.argmin(fine_cost(fine))])


def power_of_two(method: PowerOfTwo, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The ends of the grid with the best power of two as its step, and the best zero point to it."""
    del method
    smallest, largest = extremes_of(statistics)
    state = state_of(statistics, "histogram")
    if not state["counts"].any():
        return NOTHING_FINITE
    candidates = [cover_by_power_of_two(scheme, smallest, largest)]
    step = float(grid_of(scheme, *candidates[0]).step)
    for below in range(1, _DEEPEST + 1):
        candidates += _ends_at(math.ldexp(step, -below), scheme, smallest, largest)
    low, high = np.array(candidates).T
    best = int(np.argmin(mean_squared_error(density_of(state, merged=_MERGED), grid_of(scheme, low, high))))
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
