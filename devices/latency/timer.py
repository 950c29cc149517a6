"""From readings of a clock to latencies per call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import ProcessTrace

__all__ = ["RESOLUTIONS_PER_READING", "call_latency_ns", "is_coarse"]

RESOLUTIONS_PER_READING = 1000
"""A reading must be this many steps of the clock long: rounding stays under 0.1 %."""


def call_latency_ns(trace: ProcessTrace) -> NDArray[np.float64]:
    """Latency per call, float64 [readings], nanoseconds; the mean of its calls where a reading holds several."""
    return np.asarray(trace.latency_ns, dtype=np.float64) / trace.calls_per_reading


def is_coarse(trace: ProcessTrace) -> bool:
    """The readings are too short for their clock, so that no quantile of them means anything."""
    if not trace.latency_ns:
        return False
    return float(np.median(trace.latency_ns)) < RESOLUTIONS_PER_READING * trace.timer.resolution_ns / 2
