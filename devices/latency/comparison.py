"""B against A, from pairs of processes that ran side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Change, Comparison, Interval, Measurement, Outcome
from edgeport.devices.latency.steady_portion import compared_ns, steady_latencies
from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

__all__ = [
    "DELTA_FLOOR",
    "classify",
    "compare",
    "device_delta",
    "paired_differences",
    "paired_interval",
    "typical_ns",
]

Floats = NDArray[np.float64]

DELTA_FLOOR = 0.02
"""Differences below this are no regression on any device."""

_EXACT_UP_TO = 60
_NORMAL_50, _NORMAL_95 = 0.6745, 1.9600
"""What half, and 95 %, of the absolute values of a standard normal variable stay below."""


def compare(a: Measurement, b: Measurement, *, delta: float | None = None, confidence: float = 0.95) -> Comparison:
    """Compares B with A by the median latencies of processes of the same round, "offline" by their times per sample.

    With fewer than 6 pairs no 95 % interval of this kind is finite (the least p-value is 2 / 2^pairs), so that the
    change is UNKNOWN. It is UNKNOWN, too, where one of the two measurements is invalid.

    Args:
        a: What B is compared with.
        b: From the same experiment as A: their rounds are paired.
        delta: Difference that A against A shows on this device, as a fraction; None takes it from how each of the two
            differs from itself, from one round to the next.
        confidence: 0..1.

    """
    differences = paired_differences(a, b)
    if delta is None:
        delta = device_delta([*_own_differences(a), *_own_differences(b)])
    if len(differences) == 0:
        speedup = Interval(low=0.0, estimate=1.0, high=math.inf, confidence=confidence)
        return Comparison(speedup=speedup, change=Change.UNKNOWN, pairs=0, delta=delta)
    estimate, low, high = paired_interval(differences, confidence=confidence)
    valid = all(outcome_of(measurement_flags(one)) is not Outcome.INVALID for one in (a, b))
    change = classify(low, high, delta=delta) if valid else Change.UNKNOWN
    # d is the log of latency B / latency A, a speedup is A / B: bounds change places.
    speedup = Interval(low=math.exp(-high), estimate=math.exp(-estimate), high=math.exp(-low), confidence=confidence)
    return Comparison(speedup=speedup, change=change, pairs=len(differences), delta=delta)


def classify(low: float, high: float, *, delta: float) -> Change:
    """In words, from the interval of the log ratio of B to A."""
    bound = math.log1p(delta)
    if low > 0:
        return Change.REGRESSED if low > bound else Change.SLOWER
    if high < 0:
        return Change.IMPROVED if high < -bound else Change.FASTER
    return Change.EQUIVALENT if -bound < low and high < bound else Change.UNKNOWN


def paired_differences(a: Measurement, b: Measurement) -> Floats:
    """ln(B / A) of each round in which both ran, by what processes are compared by, float64 [rounds]."""
    first, second = dict(compared_ns(a)), dict(compared_ns(b))
    return np.array([math.log(second[index] / first[index]) for index in sorted(first.keys() & second.keys())])


def paired_interval(differences: Floats, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """Hodges-Lehmann estimate, and the interval of shifts that Wilcoxon's signed-rank test does not reject.

    Exact up to 60 pairs. Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods" (2014), sections 3.1-3.3.

    Returns:
        Estimate, low, high; the bounds are infinite where there are too few pairs.

    """
    first, second = np.triu_indices(len(differences))
    averages = np.sort((differences[first] + differences[second]) / 2)
    estimate = float(np.median(averages))
    rank = _critical_rank(len(differences), (1 - confidence) / 2)
    if rank < 1:
        return estimate, -math.inf, math.inf
    return estimate, float(averages[rank - 1]), float(averages[-rank])


def device_delta(differences: Sequence[float]) -> float:
    """The delta of a device: what A differs from A in 95 % of pairs, at least 2 %.

    As many pairs stay below 1.96 standard deviations of normal differences, whose deviation is taken from the median
    |d|: a few processes that a page fault or a placement of memory made half as slow again would set the 95th
    percentile itself, and with it call a large slowdown equivalent.

    Args:
        differences: Log ratios of pairs of the same artifact.

    """
    if not len(differences):
        return DELTA_FLOOR
    return max(DELTA_FLOOR, math.expm1(_NORMAL_95 / _NORMAL_50 * float(np.median(np.abs(differences)))))


def typical_ns(measurement: Measurement) -> float:
    """The median over processes of their median latencies, in nanoseconds; NaN where no process gave any."""
    medians = [np.median(values) for values in steady_latencies(measurement) if len(values)]
    return float(np.median(medians)) if medians else math.nan


def _own_differences(measurement: Measurement) -> list[float]:
    """ln(A / A before) of a measurement's rounds: A against A, as far apart in time as the arms are."""
    found = dict(compared_ns(measurement))
    logs = np.log([found[index] for index in sorted(found)])
    return np.diff(logs).tolist() if len(logs) > 1 else []


def _critical_rank(pairs: int, tail: float) -> int:
    """Largest r with P(T < r) <= tail, T being the signed-rank statistic; 0 where even T = 0 is more likely."""
    if pairs > _EXACT_UP_TO:
        from scipy.special import ndtri

        mean = pairs * (pairs + 1) / 4
        deviation = math.sqrt(pairs * (pairs + 1) * (2 * pairs + 1) / 24)
        return max(0, math.floor(mean + float(ndtri(tail)) * deviation))
    chances = np.zeros(pairs * (pairs + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, pairs + 1):
        moved = np.zeros_like(chances)
        moved[rank:] = chances[:-rank]
        chances = (chances + moved) / 2
    return int(np.searchsorted(np.cumsum(chances), tail, side="right"))
