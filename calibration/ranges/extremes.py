"""Ranges that are read off the statistics: extremes, their averages, percentiles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from edgeport.calibration.observers.averages import mean_extremes
from edgeport.calibration.observers.histogram import bin_width, left_edges
from edgeport.calibration.ranges.grid import Scheme
from edgeport.calibration.ranges.methods import Average, FixedRange, MinMax, Percentile
from edgeport.calibration.ranges.observer_state import extremes_of, state_of
from edgeport.contracts import TensorStatistics

__all__ = ["NOTHING_FINITE", "average", "fixed", "min_max", "percentile"]

NOTHING_FINITE = (math.inf, -math.inf)


def min_max(method: MinMax, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """Smallest and largest value."""
    del method, scheme
    return extremes_of(statistics)


def average(method: Average, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """Means of the samples' extremes, exact but for one rounding each."""
    del method, scheme
    return mean_extremes(state_of(statistics, "averages")) or NOTHING_FINITE


def percentile(method: Percentile, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The outer edges of the bins that hold the two order statistics: at most one bin wider than they are.

    Of n values, the upper one is the ceil(n * percentile / 100)-th smallest, the lower one its mirror image.
    """
    del scheme
    smallest, largest = extremes_of(statistics)
    if method.percentile == 100.0:
        return smallest, largest  # the histogram may not hold every value
    state = state_of(statistics, "histogram")
    cumulated = np.cumsum(state["counts"])
    count = int(cumulated[-1])
    if count == 0:
        return NOTHING_FINITE
    # Exact: in floating point 100 * 0.99 / 1 may round up to the next rank.
    rank = math.ceil(count * Fraction(str(method.percentile)) / 100)
    edges, width = left_edges(state), bin_width(state)
    low = edges[np.searchsorted(cumulated, count - rank + 1)]
    high = edges[np.searchsorted(cumulated, rank)] + width
    return max(float(low), smallest), min(float(high), largest)


def fixed(method: FixedRange, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """What was given, whatever was seen."""
    del statistics, scheme
    return method.minimum, method.maximum
