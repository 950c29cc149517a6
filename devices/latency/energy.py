"""Joules per sample, from a counter or a meter of the machine; never guessed from the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeport.contracts import Energy, Measurement, ProcessTrace, TelemetrySample
from edgeport.devices.latency.quantiles import mean_interval
from edgeport.devices.latency.telemetry import idle_samples, timed_samples

__all__ = ["LEAST_S", "energy"]

LEAST_S = 10.0
"""Seconds of calls, over all processes, below which a meter that is read five times a second says little."""


def energy(measurement: Measurement, *, confidence: float = 0.95) -> Energy:
    """(E - P_idle T) / N: what the calls took above the machine at rest, per sample.

    P_idle comes from the rest before each process's calls (`TimeJob.idle_s`). Where a machine has several meters of a
    kind they are added; counters of the processor (RAPL) and the GPU (NVML) are added too, a meter of the whole board
    (INA) is preferred to both, because it holds them.

    Args:
        measurement: Traces with a rest, and telemetry of a meter.
        confidence: Of Student's t interval over processes.

    """
    names = _meters(measurement)
    if not names:
        return Energy(refused="not measured: this machine has no meter that may be read (RAPL, NVML, INA)")
    source = ", ".join(_shown(name) for name in names)
    duration_s = sum(_duration_s(timed_samples(trace)) for trace in measurement.traces)
    if not all(len(idle_samples(trace)) == 2 for trace in measurement.traces):
        return Energy(source=source, refused="not measured: no rest before the calls to compare with")
    if duration_s < LEAST_S:
        return Energy(source=source, refused=f"not measured: {duration_s:.1f} s of calls; {LEAST_S:g} s are needed")
    idle = [_energy_j(idle_samples(trace), names) / _duration_s(idle_samples(trace)) for trace in measurement.traces]
    idle_w = float(np.median(idle))
    per_sample = [_per_sample_j(trace, names, idle_w) for trace in measurement.traces]
    if not all(math.isfinite(value) for value in (*per_sample, idle_w)):
        return Energy(source=source, refused="not measured: the meter was not there all the time")
    return Energy(per_sample_j=mean_interval(per_sample, confidence), idle_w=idle_w, source=source)


def _per_sample_j(trace: ProcessTrace, names: Sequence[str], idle_w: float) -> float:
    samples = timed_samples(trace)
    count = trace.samples or len(trace.latency_ns) * trace.calls_per_reading
    return (_energy_j(samples, names) - idle_w * _duration_s(samples)) / count


def _meters(measurement: Measurement) -> list[str]:
    """The meters that every process read."""
    found: set[str] | None = None
    for trace in measurement.traces:
        own = {name for sample in timed_samples(trace) for name in sample.values if _is_meter(name)}
        found = own if found is None else found & own
    board = sorted(name for name in found or () if name.startswith("power_"))
    return board or sorted(found or ())


def _is_meter(name: str) -> bool:
    return (name.startswith("energy_") and name.endswith("_uj")) or (name.startswith("power_") and name.endswith("_uw"))


def _shown(name: str) -> str:
    return name.partition("_")[2].rsplit("_", 1)[0].replace("_", " ")


def _duration_s(samples: Sequence[TelemetrySample]) -> float:
    return (samples[-1].at_ns - samples[0].at_ns) / 1e9 if len(samples) >= 2 else 0.0


def _energy_j(samples: Sequence[TelemetrySample], names: Sequence[str]) -> float:
    return sum(_counted_j(samples, name) if name.endswith("_uj") else _summed_j(samples, name) for name in names)


def _counted_j(samples: Sequence[TelemetrySample], name: str) -> float:
    """Growth of a counter; one that began again goes on from its range."""
    steps = np.diff([sample.values.get(name, math.nan) for sample in samples])
    span = max((sample.values.get(f"{name}_range", 0.0) for sample in samples), default=0.0)
    return float(np.where(steps < 0, steps + (span or math.nan), steps).sum()) / 1e6


def _summed_j(samples: Sequence[TelemetrySample], name: str) -> float:
    """The power's integral over time, by trapezoids between readings."""
    power_w = np.array([sample.values.get(name, math.nan) for sample in samples]) / 1e6
    at_s = np.array([sample.at_ns for sample in samples]) / 1e9
    return float((np.diff(at_s) * (power_w[:-1] + power_w[1:]) / 2).sum())
