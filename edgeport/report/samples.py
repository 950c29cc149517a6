"""Raw readings, thinned for drawing: the report keeps their shape, the result keeps them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Measurement, ProcessTrace

__all__ = ["Distribution", "Series", "distribution", "process_medians", "series"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Quantiles of all calls of all processes.

    Attributes:
        latency_ns: Ascending.
        share: Part of the calls that took no longer, 0..1; same length.

    """

    latency_ns: Floats
    share: Floats


@dataclass(frozen=True, kw_only=True)
class Series:
    """Calls in the order in which they were made, in bins of neighbours.

    Attributes:
        call: Number of the bin's middle call, counted over all processes.
        low, median, high: Of the bin, ns; all of the same length.
        process: Number of the process that each bin is of.

    """

    call: Floats
    low: Floats
    median: Floats
    high: Floats
    process: NDArray[np.int64]


def per_call_ns(trace: ProcessTrace) -> Floats:
    """Readings per call, ns; a reading may hold several calls where the clock is coarse."""
    return np.asarray(trace.latency_ns, dtype=np.float64) / trace.calls_per_reading


def distribution(measurement: Measurement, points: int = 240) -> Distribution | None:
    """The empirical distribution at evenly spaced shares, dense in the tail; None without readings."""
    pooled = np.concatenate([per_call_ns(trace) for trace in measurement.traces] or [np.empty(0)])
    if not pooled.size:
        return None
    body, tail = np.linspace(0, 0.98, points * 3 // 4), 1 - np.geomspace(0.0195, 1 / max(pooled.size, 100), points // 4)
    share = np.concatenate([body, tail])
    return Distribution(latency_ns=np.quantile(pooled, share), share=share)


def process_medians(measurement: Measurement) -> Floats:
    """One median per process that has readings, ns."""
    return np.array([np.median(per_call_ns(trace)) for trace in measurement.traces if trace.latency_ns])


def series(measurement: Measurement, bins: int = 480) -> Series | None:
    """The calls of all processes, one after another, in about so many bins; None without readings."""
    traces = [per_call_ns(trace) for trace in measurement.traces if trace.latency_ns]
    if not traces:
        return None
    each = max(1, bins // len(traces))
    parts: list[tuple[float, float, float, float, int]] = []
    before = 0
    for number, values in enumerate(traces):
        for chunk in np.array_split(np.arange(values.size), min(each, values.size)):
            taken = values[chunk]
            middle = before + float(chunk.mean())
            parts.append((middle, float(taken.min()), float(np.median(taken)), float(taken.max()), number))
        before += values.size
    call, low, median, high, process = (np.array(column) for column in zip(*parts, strict=True))
    return Series(call=call, low=low, median=median, high=high, process=process.astype(np.int64))
