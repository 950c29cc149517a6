"""A measurement of today against one that was kept: not interleaved, so it may claim less than a pair."""

from __future__ import annotations

import math

import numpy as np

from edgeport.contracts import Change, Comparison, Interval, Measurement, Outcome
from edgeport.devices.latency.comparison import DELTA_FLOOR, classify, compare
from edgeport.devices.latency.steady_portion import compared_ns
from edgeport.devices.latency.telemetry import canary_ns
from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

__all__ = ["compare_with_kept", "machine_change"]


def compare_with_kept(kept: Measurement, now: Measurement, *, confidence: float = 0.95) -> tuple[Comparison, str]:
    """Compares by what processes of a pair are compared by, Welch's t interval of the logarithms.

    What was measured one after the other differs by the machine's mood too: only differences beyond the delta count
    (IMPROVED, REGRESSED, EQUIVALENT or UNKNOWN), and none does where the fixed work of the canary changed as much.

    Args:
        kept: At least 2 traces, from the same device.
        now: At least 2 traces.
        confidence: 0..1.

    Returns:
        The comparison, and why its change is UNKNOWN where that is not the interval's doing.

    """
    delta = max(DELTA_FLOOR, compare(kept, kept).delta, compare(now, now).delta)
    before, after = (np.log([ns for _, ns in compared_ns(one)]) for one in (kept, now))
    if min(len(before), len(after)) < 2:
        speedup = Interval(low=0.0, estimate=1.0, high=math.inf, confidence=confidence)
        return Comparison(speedup=speedup, change=Change.UNKNOWN, pairs=0, delta=delta), "one process is no evidence"
    estimate, half = _welch(before, after, confidence)
    change = _beyond(classify(estimate - half, estimate + half, delta=delta))
    doubt = _doubt(kept, now, delta)
    speedup = Interval(
        low=math.exp(-estimate - half),
        estimate=math.exp(-estimate),
        high=math.exp(half - estimate),
        confidence=confidence,
    )
    return Comparison(speedup=speedup, change=Change.UNKNOWN if doubt else change, pairs=0, delta=delta), doubt


def machine_change(kept: Measurement, now: Measurement) -> float | None:
    """Time of the canary's fixed work, now over then, minus 1; None where one of the two has no canary."""
    then, today = ([ns for trace in one.traces for ns in canary_ns(trace)] for one in (kept, now))
    if not then or not today:
        return None
    return float(np.median(today) / np.median(then)) - 1


def _doubt(kept: Measurement, now: Measurement, delta: float) -> str:
    if kept.device != now.device:
        return "the kept measurement is of another device, or of another version of its software"
    for name, one in (("kept", kept), ("new", now)):
        flags = [flag for flag in measurement_flags(one) if outcome_of([flag]) is not Outcome.PASS]
        if flags:
            return f"the {name} measurement is in doubt: {', '.join(flags)}"
    changed = machine_change(kept, now)
    if changed is not None and abs(math.log1p(changed)) > math.log1p(delta):
        return f"the machine itself does its fixed work {changed:+.1%} slower than then"
    return ""


def _beyond(change: Change) -> Change:
    """Without differences that are smaller than the delta."""
    return Change.UNKNOWN if change in (Change.SLOWER, Change.FASTER) else change


def _welch(before: np.ndarray, after: np.ndarray, confidence: float) -> tuple[float, float]:
    """Difference of the means, and half of its interval (Welch 1947)."""
    from scipy.special import stdtrit

    parts = [float(values.var(ddof=1)) / len(values) for values in (before, after)]
    variance = sum(parts)
    estimate = float(after.mean() - before.mean())
    if variance == 0:
        return estimate, 0.0
    freedom = variance**2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (before, after), strict=True)
    )
    return estimate, float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)
