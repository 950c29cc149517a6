"""A quantile of the latency, with an interval that covers it as often as it says.

What is estimated is the quantile of a typical process: processes differ by a factor (where their memory lies, which
core they got), and that factor is drawn once per process, not once per call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Interval, Quantile
from edgeport.devices.latency.autocorrelation import correlation_time

__all__ = [
    "aligned",
    "between_processes",
    "estimate_quantile",
    "least_effective_calls",
    "mean_interval",
    "order_statistics",
]

Floats = NDArray[np.float64]

_LARGEST_TAU = 5.0
_TAIL_CALLS = 5.0
_MEDIAN = 0.5


def least_effective_calls(q: float, confidence: float = 0.95) -> int:
    """Fewest independent calls whose extremes bound the quantile on both sides (95 %: p50 6, p90 36, p99 368)."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(max(q, 1 - q)))


def estimate_quantile(
    series: Sequence[Floats], q: float, *, calls_per_reading: int = 1, confidence: float = 0.95
) -> Quantile:
    """The quantile and the wider of two intervals: over calls (order statistics) and over processes.

    Args:
        series: Steady latencies of each process, nanoseconds.
        q: 0..1.
        calls_per_reading: More than 1 leaves only the median: the mean of several calls has no tail.
        confidence: 0..1.

    Returns:
        The quantile, or why there is none.

    """
    refused = _refusal(series, q, calls_per_reading, confidence)
    if refused:
        return Quantile(q=q, interval_ns=None, refused=refused)
    tau = correlation_time(series, q)
    effective = sum(map(len, series)) / tau
    needed = 2 * least_effective_calls(q, confidence)
    tail = not math.isclose(q, _MEDIAN)
    if tail and tau > _LARGEST_TAU:
        if not _resolves(series, q, tau):
            reason = f"calls are correlated over {tau:.0f} calls, and no process is long enough by itself"
            return Quantile(q=q, interval_ns=None, refused=reason)
        return Quantile(q=q, interval_ns=between_processes(series, q, tau=tau, confidence=confidence))
    if effective < needed:
        reason = f"{effective:.0f} independent calls; p{100 * q:g} needs {needed}"
        return Quantile(q=q, interval_ns=None, refused=reason)
    inner = order_statistics(np.concatenate(aligned(series)), q, effective=effective, confidence=confidence)
    outer = between_processes(series, q, tau=tau, confidence=confidence)
    if not _resolves(series, q, tau):
        return Quantile(q=q, interval_ns=_both(inner, outer))
    return Quantile(q=q, interval_ns=max(inner, outer, key=lambda interval: interval.high - interval.low))


def aligned(series: Sequence[Floats]) -> list[Floats]:
    """The calls as if each process had the typical median: what a typical process would show."""
    medians = np.log([float(np.median(values)) for values in series])
    return [values * math.exp(medians.mean() - own) for values, own in zip(series, medians, strict=True)]


def _both(inner: Interval, outer: Interval) -> Interval:
    """Both errors together (in the log, as the roots of sums of squares): the two are independent here."""
    centre = math.log(inner.estimate)
    low, high = (
        math.hypot(math.log(getattr(inner, side) or math.inf) - centre, math.log(getattr(outer, side) / outer.estimate))
        for side in ("low", "high")
    )
    return Interval(
        low=math.exp(centre - low), estimate=inner.estimate, high=math.exp(centre + high), confidence=inner.confidence
    )


def order_statistics(values: Floats, q: float, *, effective: float, confidence: float = 0.95) -> Interval:
    """Interval from ranks: B ~ Bin(n_eff, q) calls lie below the quantile; ranks are mapped back by n / n_eff.

    David and Nagaraja, "Order Statistics" (2003), section 7.1. A bound whose rank does not exist is infinite.
    """
    from scipy.special import bdtr

    ordered = np.sort(values)
    count, trials = len(ordered), max(1, int(effective))
    spread = 10 * math.sqrt(trials * q * (1 - q)) + 10
    below = np.arange(max(0, int(trials * q - spread)), min(trials, int(trials * q + spread)) + 1)
    cumulated = bdtr(below, trials, q)  # P(B <= k)
    tail = (1 - confidence) / 2
    low_ranks = below[cumulated <= tail] + 1  # P(B < rank) <= tail
    high_ranks = below[cumulated >= 1 - tail] + 1  # P(B >= rank) <= tail
    low, high = 0.0, math.inf
    if len(low_ranks):
        low = float(ordered[max(1, math.floor(low_ranks[-1] * count / trials)) - 1])
    if len(high_ranks) and high_ranks[0] <= trials:
        high = float(ordered[min(count, math.ceil(high_ranks[0] * count / trials)) - 1])
    estimate = float(np.quantile(ordered, q))
    return Interval(low=min(low, estimate), estimate=estimate, high=max(high, estimate), confidence=confidence)


def between_processes(series: Sequence[Floats], q: float, *, tau: float, confidence: float = 0.95) -> Interval:
    """Interval from the spread between processes: Student's t over the log quantiles of processes, around the quantile
    of all calls.

    A cluster bootstrap (processes, then blocks of calls) would cover only 90 % at 10 processes, and takes minutes on
    long traces. Where a process is too short for the quantile, the spread of the medians is taken for that of the
    quantile: processes differ by a factor.
    """
    from scipy.special import stdtrit

    own = _resolves(series, q, tau)
    logs = np.log([float(np.quantile(values, q if own else _MEDIAN)) for values in series])
    factor = float(stdtrit(len(logs) - 1, (1 + confidence) / 2))
    half = factor * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    centre = math.log(float(np.quantile(np.concatenate(aligned(series)), q)))
    return Interval(
        low=math.exp(centre - half), estimate=math.exp(centre), high=math.exp(centre + half), confidence=confidence
    )


def mean_interval(values: Sequence[float], confidence: float, *, around: float | None = None) -> Interval:
    """Student's t interval of a mean; around another estimate where one is given. One value bounds nothing."""
    from scipy.special import stdtrit

    estimate = float(np.mean(values)) if around is None else around
    if len(values) < 2:
        return Interval(low=-math.inf, estimate=estimate, high=math.inf, confidence=confidence)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Interval(low=estimate - half, estimate=estimate, high=estimate + half, confidence=confidence)


def _refusal(series: Sequence[Floats], q: float, calls_per_reading: int, confidence: float) -> str:
    if calls_per_reading > 1 and not math.isclose(q, _MEDIAN):
        return f"each reading holds {calls_per_reading} calls, because the clock is too coarse for one"
    if len(series) < 2:
        return "one process says nothing about the next; measure at least 2"
    count, needed = sum(map(len, series)), 2 * least_effective_calls(q, confidence)
    if count < needed:
        return f"{count} calls; p{100 * q:g} needs {needed} independent ones"
    if min(map(len, series)) < 1:
        return "a process without a call"
    return ""


def _resolves(series: Sequence[Floats], q: float, tau: float) -> bool:
    """Each process has independent calls enough on both sides of its own quantile."""
    return min(map(len, series)) / tau * min(q, 1 - q) >= _TAIL_CALLS
