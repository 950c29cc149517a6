"""Reads the telemetry of a trace."""

from __future__ import annotations

from edgeport.contracts import ProcessTrace, TelemetrySample

__all__ = ["canary_ns", "growth", "timed_samples"]

_CANARY = "canary_ns"


def timed_samples(trace: ProcessTrace) -> list[TelemetrySample]:
    """The readings that frame and interrupt the timed calls, without those of the canary before and after."""
    return [sample for sample in trace.telemetry if _CANARY not in sample.values]


def growth(samples: list[TelemetrySample], name: str) -> float | None:
    """Last minus first value of a counter; None where it was not read twice."""
    values = [sample.values[name] for sample in samples if name in sample.values]
    return values[-1] - values[0] if len(values) >= 2 else None


def canary_ns(trace: ProcessTrace) -> list[float]:
    """Times of the fixed work before and after the timed calls, nanoseconds."""
    return [sample.values[_CANARY] for sample in trace.telemetry if _CANARY in sample.values]
