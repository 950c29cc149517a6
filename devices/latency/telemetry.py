"""Reads the telemetry of a trace."""

from __future__ import annotations

from edgeport.contracts import ProcessTrace, TelemetrySample

__all__ = ["canary_ns", "exchange_ns", "growth", "idle_samples", "timed_samples"]

_CANARY = "canary_ns"
_EXCHANGE = "exchange_ns"
_IDLE = ("idle_starts", "idle_ends")


def timed_samples(trace: ProcessTrace) -> list[TelemetrySample]:
    """The readings that frame and interrupt the timed calls, without those of the canary and of the rest before."""
    return [sample for sample in trace.telemetry if not sample.values.keys() & {_CANARY, *_IDLE}]


def idle_samples(trace: ProcessTrace) -> list[TelemetrySample]:
    """The two readings that frame the rest before the timed calls; none where there was no rest."""
    return [sample for sample in trace.telemetry if sample.values.keys() & set(_IDLE)]


def growth(samples: list[TelemetrySample], name: str) -> float | None:
    """Last minus first value of a counter; None where it was not read twice."""
    values = [sample.values[name] for sample in samples if name in sample.values]
    return values[-1] - values[0] if len(values) >= 2 else None


def canary_ns(trace: ProcessTrace) -> list[float]:
    """Times of the fixed work before and after the timed calls, nanoseconds."""
    return [sample.values[_CANARY] for sample in trace.telemetry if _CANARY in sample.values]


def exchange_ns(trace: ProcessTrace) -> list[float]:
    """Times of reading what another processor wrote, before and after the timed calls, nanoseconds."""
    return [sample.values[_EXCHANGE] for sample in trace.telemetry if _EXCHANGE in sample.values]
