"""Whether the machine slowed itself down while it was measured."""

from __future__ import annotations

import re

import numpy as np

from edgeport.contracts import Measurement, ProcessTrace
from edgeport.devices.latency.telemetry import timed_samples
from edgeport.devices.latency.timer import call_latency_ns

__all__ = ["retention", "says_throttled", "throttling_flags"]

_LEAST_FREQUENCY = 0.95
_EDGE = 0.2
_COUNTERS = re.compile(r"(core|package)_throttle_count|over_current\d_count")
_HELD_BACK = re.compile(r"cooling\d+_.*(cpu|processor|gpu|devfreq).*_state", re.IGNORECASE)

# Of `vcgencmd get_throttled`: the last four bits say what is so now, those 16 above what was so at any time since boot.
_NOW, _SINCE_BOOT = 0xF, 0xF0000
# Of NVML's reasons for a low clock: hardware slowdown, heat seen by the driver or the hardware, the power brake. Not
# the power cap: that is how a GPU runs under full load.
_GPU_REASONS = 0x8 | 0x20 | 0x40 | 0x80


def throttling_flags(measurement: Measurement) -> list[str]:
    """ "throttled" where the machine says so; "frequency-drop" where the 5th percentile of the clock frequency is
    under 95 % of its median; "power-mode" where the board's power mode was changed.

    The highest frequency of all processors counts in each reading: idle ones rest at a low one.
    """  # noqa: D210 (the first word is a quoted flag)
    flags = []
    highest = []
    modes = set()
    for trace in measurement.traces:
        samples = timed_samples(trace)
        if says_throttled(trace):
            flags.append("throttled")
        frequencies = [
            [value for name, value in sample.values.items() if name.endswith("_freq_khz")] for sample in samples
        ]
        highest += [max(values) for values in frequencies if values]
        modes |= {
            value for sample in trace.telemetry for name, value in sample.values.items() if name == "nvpmodel_mode"
        }
    if highest and float(np.quantile(highest, 0.05)) < _LEAST_FREQUENCY * float(np.median(highest)):
        flags.append("frequency-drop")
    if len(modes) > 1:
        flags.append("power-mode")
    return sorted(set(flags))


def says_throttled(trace: ProcessTrace) -> bool:
    """By a counter that grew, a state that holds something back, or a program of the board."""
    timed: dict[str, list[float]] = {}
    for sample in timed_samples(trace):
        for name, value in sample.values.items():
            timed.setdefault(name, []).append(value)
    for name, values in timed.items():
        if _COUNTERS.fullmatch(name) and max(values) > min(values):
            return True
        if _HELD_BACK.fullmatch(name) and max(values) > 0:
            return True
        if name.endswith("_throttle_bits") and any(int(value) & _GPU_REASONS for value in values):
            return True
    # Programs were asked before the model was opened and after the last call; what they say there counts too.
    framed = [sample.values for sample in trace.telemetry]
    if any(values.get("android_thermal_status", 0) >= 1 for values in framed):
        return True
    bits = [int(values["vcgencmd_throttled_bits"]) for values in framed if "vcgencmd_throttled_bits" in values]
    return any(now & _NOW or (now & ~bits[0]) & _SINCE_BOOT for now in bits)


def retention(trace: ProcessTrace) -> float:
    """Median of the last fifth of the calls over that of the first fifth; above 1, it got slower."""
    latency_ns = call_latency_ns(trace)
    edge = max(1, int(_EDGE * len(latency_ns)))
    return float(np.median(latency_ns[-edge:]) / np.median(latency_ns[:edge]))
