"""Intervals of what was measured several times, and the noise of outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, stdev

import numpy as np
from scipy import stats

from edgeport.accuracy.metrics import SQNR_CEILING_DB
from edgeport.contracts import Array


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Low, median, high: the interval of the sign test, by order statistics (Conover, Practical Nonparametric
    Statistics, section 3.2). For paired differences it needs no assumption but that the pairs are independent.

    Raises:
        ValueError: Too few values for this confidence (95 % needs 6).

    """
    ordered, count = sorted(values), len(values)
    rank = int(stats.binom.ppf((1 - confidence) / 2, count, 0.5))
    if rank < 1 and 2 * 0.5**count > 1 - confidence:
        raise ValueError(f"{count} values are too few for a {confidence:.0%} interval of their median")
    rank = max(rank, 1)
    return ordered[rank - 1], median(ordered), ordered[count - rank]


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean difference of pairs, by Student's t; a single value stands for every pair."""
    count = max(len(ours), len(theirs))
    ours, theirs = (list(one) * count if len(one) == 1 else list(one) for one in (ours, theirs))
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    if count == 1:
        return differences[0], differences[0]
    half = float(stats.t.ppf(0.975, count - 1)) * stdev(differences) / math.sqrt(count)
    return mean(differences) - half, mean(differences) + half


def sqnr_db(own: Array, reference: Array) -> float:
    """Power of the signal over that of the error, over all values, in decibels; 150 where they are equal."""
    signal = reference.astype(np.float64)
    noise, power = float(np.square(own - signal).sum()), float(np.square(signal).sum())
    if noise == 0 or power == 0:
        return SQNR_CEILING_DB if noise == 0 else -SQNR_CEILING_DB
    return min(10 * math.log10(power / noise), SQNR_CEILING_DB)
