"""Whether the machine slowed itself down while it was measured."""

from __future__ import annotations

import numpy as np

from edgeport.contracts import Measurement, ProcessTrace
from edgeport.devices.latency.telemetry import timed_samples
from edgeport.devices.latency.timer import call_latency_ns

__all__ = ["retention", "throttling_flags"]

_LEAST_FREQUENCY = 0.95
_THROTTLE_COUNTS = ("core_throttle_count", "package_throttle_count")
_EDGE = 0.2


def throttling_flags(measurement: Measurement) -> list[str]:
    """ "throttled" where the hardware says so; "frequency-drop" where the 5th percentile of the clock frequency is
    under 95 % of its median.

    The highest frequency of all processors counts in each reading: idle ones rest at a low one.
    """  # noqa: D210 (the first word is a quoted flag)
    flags = []
    highest = []
    for trace in measurement.traces:
        samples = timed_samples(trace)
        for name in _THROTTLE_COUNTS:
            counts = [sample.values[name] for sample in samples if name in sample.values]
            if counts and max(counts) > min(counts):
                flags.append("throttled")
        frequencies = [
            [value for name, value in sample.values.items() if name.endswith("_freq_khz")] for sample in samples
        ]
        highest += [max(values) for values in frequencies if values]
    if highest and float(np.quantile(highest, 0.05)) < _LEAST_FREQUENCY * float(np.median(highest)):
        flags.append("frequency-drop")
    return sorted(set(flags))


def retention(trace: ProcessTrace) -> float:
    """Median of the last fifth of the calls over that of the first fifth; above 1, it got slower."""
    latency_ns = call_latency_ns(trace)
    edge = max(1, int(_EDGE * len(latency_ns)))
    return float(np.median(latency_ns[-edge:]) / np.median(latency_ns[:edge]))
