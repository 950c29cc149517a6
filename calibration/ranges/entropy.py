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

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.histogram import BINS, bin_width
from edgeport.calibration.ranges.ends import NOTHING_FINITE
from edgeport.calibration.ranges.methods import Entropy
from edgeport.calibration.ranges.scheme import Scheme, grid_of
from edgeport.calibration.ranges.seen import extremes_of, state_of
from edgeport.contracts import TensorStatistics

__all__ = ["divergence", "entropy", "thresholds"]

_HALF = BINS // 2
_EVERY = 8
"""Bins from one threshold to the next: a level is that many bins at the widest range."""


def entropy(method: Entropy, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The range up to the best threshold, on both sides, and no wider than what was seen.

    The number of bins, not of thresholds, is what limits it: where integers outnumber the bins (int16) nothing is
    merged at any threshold, and the range is min-max.
    """
    del method
    smallest, largest = extremes_of(statistics)
    state = state_of(statistics, "histogram")
    if not state["counts"].any():
        return NOTHING_FINITE
    counts = state["counts"].astype(np.float64)
    counts[_HALF] = counts[_HALF + 1]
    width = bin_width(state)
    found = (math.inf, smallest, largest)
    for reach in reversed(thresholds(scheme, smallest, largest, width)):
        low, high = max(smallest, -reach * width), min(largest, reach * width)
        lost = divergence(counts, width, low, high, scheme)
        if lost < found[0]:
            found = (lost, low, high)
    return found[1], found[2]


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


def divergence(counts: NDArray[np.float64], width: float, low: float, high: float, scheme: Scheme) -> float:
    """KL(P || Q) of the range, in nats; infinite where a level holds nothing but what was clipped.

    Args:
        counts: Of the histogram, float64 [BINS].
        width: Of a bin.
        low: Lower end of the range; a bin that it cuts belongs to it.
        high: Upper end.
        scheme: Integers.

    """
    begin = max(_HALF + math.floor(min(low, 0.0) / width), 0)
    end = min(max(_HALF + math.ceil(max(high, 0.0) / width), begin + 1), BINS)
    inside = counts[begin:end]
    reference = inside.copy()
    reference[0] += counts[:begin].sum()
    reference[-1] += counts[end:].sum()
    total, kept = reference.sum(), inside.sum()
    if kept == 0.0:
        return math.inf
    grid = grid_of(scheme, low, high)
    centres = (np.arange(begin, end) - _HALF + 0.5) * width
    levels = np.rint((np.clip(centres, grid.lowest, grid.highest) - grid.lowest) / grid.step).astype(np.int64)
    filled = reference > 0
    mass = np.bincount(levels, weights=inside)
    spread = np.bincount(levels, weights=filled)
    share = reference[filled] / total
    model = (mass[levels] / np.maximum(spread[levels], 1.0))[filled] / kept
    if (model == 0.0).any():
        return math.inf
    return float((share * np.log(share / model)).sum())
