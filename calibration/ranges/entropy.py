"""The threshold of least Kullback-Leibler divergence.

S. Migacz, "8-bit Inference with TensorRT" (GPU Technology Conference 2017): for each threshold, P is the histogram up
to it with all that lies beyond added to the last bin, Q is the histogram up to it, merged into as many levels as there
are integers and spread again evenly over the bins of each level that are not empty in P; the threshold with the least
KL(P || Q) is taken. Here levels are those of the dialect's own grid, so asymmetric and one-sided ranges are one case
with the rest, and the bin of zero counts as much as its neighbour, since zeros (what a Relu gives) are exact whatever
the range: NVIDIA's later `pytorch-quantization` does the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.histogram import BINS, bin_width
from edgeport.calibration.ranges.extremes import NOTHING_FINITE
from edgeport.calibration.ranges.grid import Grid, Scheme, grid_of
from edgeport.calibration.ranges.methods import Entropy
from edgeport.calibration.ranges.observer_state import extremes_of, state_of
from edgeport.contracts import TensorStatistics

__all__ = ["divergences", "entropy", "thresholds"]

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_HALF = BINS // 2
_EVERY = 8
"""Bins from one threshold to the next: a level is that many bins at the widest range."""
_AT_ONCE = 12288
"""Levels of all thresholds in one array: as in `error.py`."""
_SAME = 1e-11
"""Nats within which divergences are equal: they are differences of sums that are rounded."""


def entropy(method: Entropy, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The range up to the best threshold, on both sides, and no wider than what was seen; of equal ones the widest.

    The number of bins, not of thresholds, is what limits it: where integers outnumber the bins (int16) nothing is
    merged at any threshold, and the range is min-max.
    """
    del method
    smallest, largest = extremes_of(statistics)
    state = state_of(statistics, "histogram")
    if not state["counts"].any():
        return NOTHING_FINITE
    width = bin_width(state)
    reaches = np.array(thresholds(scheme, smallest, largest, width)[::-1], np.float64) * width
    lows, highs = np.maximum(smallest, -reaches), np.minimum(largest, reaches)
    if len(reaches) == 1:
        return float(lows[0]), float(highs[0])
    counts = state["counts"].astype(np.float64)
    counts[_HALF] = counts[_HALF + 1]
    if not counts.any():  # zeros are all that was counted of many values
        return smallest, largest
    lost = divergences(counts, width, lows, highs, scheme)
    least = lost.min()
    if not math.isfinite(least):
        return smallest, largest
    best = int(np.argmax(lost <= least + _SAME))
    return float(lows[best]), float(highs[best])


def thresholds(scheme: Scheme, smallest: float, largest: float, width: float) -> list[int]:
    """Bins from zero to each threshold, ascending; the last one holds everything.

    The first is where there are as many bins as levels: below it every bin has a level of its own.
    """
    bottom, top = min(smallest, 0.0) / width, max(largest, 0.0) / width
    all_of_it = max(math.ceil(-bottom), math.floor(top) + 1)  # beyond the histogram where that left values out
    first, last = scheme.limits
    sides = 2 if scheme.symmetric or (bottom < 0.0 < top) else 1
    least = (last - first + 1) // sides
    return [*range(least, min(all_of_it, _HALF), _EVERY), all_of_it]


def divergences(counts: Floats, width: float, lows: Floats, highs: Floats, scheme: Scheme) -> Floats:
    """KL(P || Q) of each range, in nats [T]; infinite where a level holds nothing but what was clipped.

    All bins of a level have one Q, so that sums over the bins of a level are enough, and these are differences of sums
    up to a bin: the cost is that of the levels, whatever the number of bins.

    Args:
        counts: Of the histogram, float64 [BINS].
        width: Of a bin.
        lows: Lower ends of the ranges, float64 [T]; a bin that one cuts belongs to it.
        highs: Upper ends, float64 [T].
        scheme: Integers.

    """
    sums = _Sums(counts=counts, count=_until(counts), filled=_until(counts > 0), logarithms=_until(_times_log(counts)))
    first, last = scheme.limits
    rows = max(1, _AT_ONCE // (last - first))
    parts = [slice(start, start + rows) for start in range(0, len(lows), rows)]
    return np.concatenate([_lost(sums, width, lows[part], highs[part], scheme) for part in parts])


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Of a histogram; but for the counts, over all bins before each one, float64 [BINS + 1].

    Attributes:
        counts: Float64 [BINS].
        count: Of counts.
        filled: Of bins that are not empty.
        logarithms: Of counts times their logarithms.

    """

    counts: Floats
    count: Floats
    filled: Floats
    logarithms: Floats


def _lost(sums: _Sums, width: float, lows: Floats, highs: Floats, scheme: Scheme) -> Floats:
    begin = np.maximum(_HALF + np.floor(np.minimum(lows, 0.0) / width), 0).astype(np.int64)
    end = _HALF + np.ceil(np.maximum(highs, 0.0) / width).astype(np.int64)
    end = np.minimum(np.maximum(end, begin + 1), BINS)
    one = end - begin == 1
    edges, outer = _levels(grid_of(scheme, lows, highs), width, begin, end, scheme)

    total = sums.count[-1]
    kept = sums.count[end] - sums.count[begin]
    below, above = sums.count[begin], total - sums.count[end]
    mass, filled = np.diff(sums.count[edges]), np.diff(sums.filled[edges])
    reference = mass.copy()
    rows = np.arange(len(lows))
    first, last = sums.counts[begin], sums.counts[end - 1]
    reference[rows, outer[0]] += below
    reference[rows, outer[1]] += above
    filled[rows, outer[0]] += (first == 0) & (below > 0)
    filled[rows, outer[1]] += (last == 0) & (above > 0) & ~(one & (below > 0))

    of_bins = sums.logarithms[end] - sums.logarithms[begin] - _times_log(first) - np.where(one, 0.0, _times_log(last))
    of_bins += _times_log(first + below + np.where(one, above, 0.0)) + np.where(one, 0.0, _times_log(last + above))
    held = mass > 0
    spread = np.divide(mass, filled, out=np.ones_like(mass), where=held)
    result: Floats = (of_bins - (reference * np.log(spread)).sum(axis=1)) / total
    result += np.log(np.maximum(kept, 1.0) / total)
    return np.where(((reference > 0) & ~held).any(axis=1) | (kept == 0), math.inf, result)


def _levels(grid: Grid, width: float, begin: Whole, end: Whole, scheme: Scheme) -> tuple[Whole, tuple[Whole, Whole]]:
    """For each range the first bin of every level, and the end [T, levels + 1]; and the levels of the outer bins."""
    step, lowest, highest = grid.step[:, None], grid.lowest[:, None], grid.highest[:, None]

    def level_of(place: Floats) -> Floats:
        centre = (place - (_HALF - 0.5)) * width
        level: Floats = np.rint((np.minimum(np.maximum(centre, lowest), highest) - lowest) / step)
        return level

    first, last = scheme.limits
    level = np.arange(1.0, last - first + 1)
    place = np.ceil((lowest + (level - 0.5) * step) / width + (_HALF - 0.5))
    place -= level_of(place - 1.0) >= level  # by the very rounding that integers get, halves and all
    place += level_of(place) < level
    inside = np.minimum(np.maximum(place, begin[:, None]), end[:, None]).astype(np.int64)
    outer = tuple(level_of(at[:, None].astype(np.float64))[:, 0].astype(np.int64) for at in (begin, end - 1))
    return np.concatenate([begin[:, None], inside, end[:, None]], axis=1), (outer[0], outer[1])


def _until(values: NDArray[np.generic]) -> Floats:
    """Sums of all before each place, float64 [n + 1]."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _times_log(counts: Floats) -> Floats:
    result: Floats = counts * np.log(np.maximum(counts, 1.0))
    return result
