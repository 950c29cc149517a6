"""What the intervals already allow for, but a reader should know: spikes, and processes that differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeport.devices.latency.autocorrelation import correlation_time

__all__ = ["effect_flags"]

Floats = NDArray[np.float64]

_SPIKE_FACTOR = 1.5
_SPIKE_DEVIATIONS = 8.0
_SPIKE_RATE = 0.005
_SPREAD_TAIL = 0.99
_LARGEST_TAU = 5.0


def effect_flags(series: Sequence[Floats]) -> list[str]:
    """ "spikes" where over 0.5 % of the calls take over 1.5 times the median (and lie 8 deviations away);
    "process-spread" where medians of processes differ by more than their calls explain; "dependent-calls" where
    tau > 5.

    Args:
        series: Latencies of each process, float64 [calls].

    """  # noqa: D210 (the first word is a quoted flag)
    flags = []
    if _spike_rate(series) > _SPIKE_RATE:
        flags.append("spikes")
    tau = correlation_time(series, 0.5)
    if tau > _LARGEST_TAU:
        flags.append("dependent-calls")
    if _processes_differ(series, tau):
        flags.append("process-spread")
    return flags


def _spike_rate(series: Sequence[Floats]) -> float:
    """Each process against its own median and its own median absolute deviation."""
    spikes = 0
    for values in series:
        median = float(np.median(values)) if len(values) else 0.0
        deviation = 1.4826 * float(np.median(np.abs(values - median))) if len(values) else 0.0
        spikes += int(np.count_nonzero(values > max(_SPIKE_FACTOR * median, median + _SPIKE_DEVIATIONS * deviation)))
    return spikes / max(1, sum(map(len, series)))


def _processes_differ(series: Sequence[Floats], tau: float) -> bool:
    """Chi-squared test of the medians' variance against what the spread of calls explains.

    The variance of a median is pi/2 tau sigma^2 / n, with sigma from the median absolute deviation.
    """
    usable = [np.log(values) for values in series if len(values) > 2 * tau]
    if len(usable) < 2:
        return False
    from scipy.special import chdtri

    medians = np.array([float(np.median(logs)) for logs in usable])
    within = np.array(
        [
            math.pi / 2 * tau * (1.4826 * float(np.median(np.abs(logs - median)))) ** 2 / len(logs)
            for logs, median in zip(usable, medians, strict=True)
        ]
    )
    freedom = len(usable) - 1
    return float(medians.var(ddof=1)) * freedom > float(chdtri(freedom, 1 - _SPREAD_TAIL)) * float(within.mean())
