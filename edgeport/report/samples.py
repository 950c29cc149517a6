"""Raw readings, thinned for drawing: the report keeps their shape, the result keeps them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Measurement
from edgeport.devices.latency.steady_portion import steady_latencies

__all__ = ["Distribution", "Floats", "distribution", "process_medians"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Quantiles of the calls of all processes, from steady state on where there is one.

    Attributes:
        latency_ns: Ascending.
        share: Part of the calls that took no longer, 0..1; same length.

    """

    latency_ns: Floats
    share: Floats


def distribution(measurement: Measurement, points: int = 240) -> Distribution | None:
    """The empirical distribution at evenly spaced shares, dense in the tail; None without readings."""
    pooled = np.concatenate([*steady_latencies(measurement), np.empty(0)])
    if not pooled.size:
        return None
    body, tail = np.linspace(0, 0.98, points * 3 // 4), 1 - np.geomspace(0.0195, 1 / max(pooled.size, 100), points // 4)
    share = np.concatenate([body, tail])
    return Distribution(latency_ns=np.quantile(pooled, share), share=share)


def process_medians(measurement: Measurement) -> Floats:
    """One median per process that has readings, of the calls that count, ns."""
    return np.array([np.median(values) for values in steady_latencies(measurement) if values.size])
