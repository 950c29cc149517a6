"""How fast a device is at first, and how fast it stays: two numbers of one long process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgeport.contracts import Endurance, Interval, ProcessTrace, TelemetrySample
from edgeport.devices.latency.quantiles import mean_interval
from edgeport.devices.latency.telemetry import timed_samples
from edgeport.devices.latency.throttling import says_throttled
from edgeport.devices.latency.timer import call_latency_ns
from edgeport.errors import MeasurementError

__all__ = ["endurance", "paused_s"]

_BURST_S = 10.0
_BURST_SHARE = 0.1
_SUSTAINED_SHARE = 1 / 3
_SLOWER = 1.05
_BATCHES = 10
_WINDOW = 5
_PAUSE, _PAUSE_S = 10.0, 10.0


def endurance(trace: ProcessTrace, *, confidence: float = 0.95) -> Endurance:
    """Burst and sustained latency, and when it slowed down for good.

    Burst is the first 10 s (a tenth of a shorter time), sustained the last third; each is a median over slots of time,
    with Student's t interval over up to 10 batches of neighbouring slots, whose means depend less on each other than
    slots do. It is one process: another one may differ by more.

    Args:
        trace: Of the scenario "sustained".
        confidence: Of the intervals.

    Raises:
        MeasurementError: There are no slots.

    """
    samples = timed_samples(trace)
    slots = _slots(trace, samples)
    if len(slots) < 2:
        raise MeasurementError(
            asked="tell burst from sustained latency", found=f"{len(slots)} slots of time", fix="measure for longer"
        )
    at_s = np.array([at for at, _, _ in slots])
    median_ns = np.array([median for _, median, _ in slots])
    whole_s = float(at_s[-1])
    first = at_s <= max(float(at_s[0]), min(_BURST_S, _BURST_SHARE * whole_s))
    last = at_s > (1 - _SUSTAINED_SHARE) * whole_s
    burst, sustained = _t_interval(median_ns[first], confidence), _t_interval(median_ns[last], confidence)
    heat = [celsius for _, _, celsius in slots if celsius is not None]
    return Endurance(
        burst_ns=burst,
        sustained_ns=sustained,
        duration_s=whole_s,
        slowed_after_s=_slowed_after_s(at_s, median_ns, _SLOWER * burst.estimate),
        first_celsius=heat[0] if heat else None,
        hottest_celsius=max(heat, default=None),
        throttled=says_throttled(trace),
    )


def paused_s(trace: ProcessTrace) -> float:
    """Seconds in which the process stood still: the machine slept, or somebody stopped it.

    That is what slots took beyond the usual, of those that took 10 times as long and 10 s more: neither a slow call nor
    a busy machine does that.
    """
    at_ns = [sample.at_ns for sample in timed_samples(trace)]
    took_s = np.diff(np.array(at_ns, dtype=np.float64)) / 1e9
    if not took_s.size:
        return 0.0
    usual = float(np.median(took_s))
    return float(np.sum(took_s[(took_s > _PAUSE * usual) & (took_s > usual + _PAUSE_S)] - usual))


def _slots(trace: ProcessTrace, samples: Sequence[TelemetrySample]) -> list[tuple[float, float, float | None]]:
    """End (s since the start), median latency (ns) and hottest sensor (degrees Celsius) of each slot."""
    latency_ns, at, found = call_latency_ns(trace), 0, []
    for sample in samples:
        count = int(sample.values.get("kept_readings", 0))
        if not count:
            continue
        median = float(np.median(latency_ns[at : at + count]))
        at += count
        heat = max((v for name, v in sample.values.items() if name.endswith("_millicelsius")), default=None)
        found.append(((sample.at_ns - trace.started_at_ns) / 1e9, median, None if heat is None else heat / 1000))
    return found


def _slowed_after_s(at_s: np.ndarray, median_ns: np.ndarray, limit_ns: float) -> float | None:
    """From when on windows of slots stay above the limit; None where the last one does not."""
    size = max(1, min(_WINDOW, len(median_ns) // 2))
    windows = np.array([np.median(median_ns[max(0, i - size + 1) : i + 1]) for i in range(len(median_ns))])
    slow = windows > limit_ns
    if not slow[-1]:
        return None
    quick = np.flatnonzero(~slow)
    return float(at_s[quick[-1] + 1]) if quick.size else float(at_s[0])


def _t_interval(values: np.ndarray, confidence: float) -> Interval:
    borders = np.linspace(0, len(values), min(_BATCHES, len(values)) + 1).astype(int)
    means = [float(np.mean(values[a:b])) for a, b in pairwise(borders)]
    return mean_interval(means, confidence, around=float(np.median(values)))
