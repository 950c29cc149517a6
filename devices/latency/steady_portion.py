"""The part of each process that its numbers are taken from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Interval, Measurement, ProcessTrace
from edgeport.devices.latency.steady_state import Shape, SteadyState, find_steady_state
from edgeport.devices.latency.timer import call_latency_ns

__all__ = ["compared_ns", "over_processes", "steady_latencies", "steady_states"]


def steady_states(measurement: Measurement) -> list[SteadyState]:
    """What each process came to, in the order of the traces."""
    return [_state(trace.latency_ns, trace.calls_per_reading) for trace in measurement.traces]


def steady_latencies(measurement: Measurement) -> list[NDArray[np.float64]]:
    """Latencies per call of each process, nanoseconds: from steady state on, or all where there is none.

    A process that never came to rest is not left out: leaving out what looks odd would be choosing the result.
    """
    return [
        _latencies(trace, state) for trace, state in zip(measurement.traces, steady_states(measurement), strict=True)
    ]


def compared_ns(measurement: Measurement) -> list[tuple[int, float]]:
    """Round of each process that has readings, and what it is compared by, in nanoseconds.

    That is the median latency of a call. In the scenario "offline", where calls wait for each other and throughput is
    what counts, it is the time per sample.
    """
    return [
        (trace.round, _per_sample_ns(trace) or float(np.median(values)))
        for trace, values in zip(measurement.traces, steady_latencies(measurement), strict=True)
        if len(values)
    ]


def _per_sample_ns(trace: ProcessTrace) -> float | None:
    return trace.elapsed_ns / trace.samples if trace.scenario == "offline" and trace.samples else None


def _latencies(trace: ProcessTrace, state: SteadyState) -> NDArray[np.float64]:
    latency_ns = call_latency_ns(trace)
    return latency_ns[state.start :] if state.shape is Shape.STEADY else latency_ns


@lru_cache(maxsize=256)
def _state(latency_ns: tuple[int, ...], calls_per_reading: int) -> SteadyState:
    """Remembered, because a summary and several comparisons ask for the same traces."""
    return find_steady_state(np.asarray(latency_ns, dtype=np.float64) / calls_per_reading)


def over_processes(values: Sequence[float], *, confidence: float = 0.95) -> Interval | None:
    """The typical value of something that each process shows once (above 0): Student's t interval of the logarithms.

    None where fewer than two processes show it.
    """
    if len(values) < 2 or min(values) <= 0:
        return None
    from scipy.special import stdtrit

    logs = np.log(values)
    half = float(stdtrit(len(logs) - 1, (1 + confidence) / 2)) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    low, middle, high = (math.exp(float(logs.mean()) + shift) for shift in (-half, 0.0, half))
    return Interval(low=low, estimate=middle, high=high, confidence=confidence)
