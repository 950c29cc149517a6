"""The units that a result is shown in."""

from __future__ import annotations

from edgeport.contracts import RunResult
from edgeport.report.figures import AccuracyUnit, LatencyUnit

__all__ = ["units"]


def units(result: RunResult) -> tuple[LatencyUnit, AccuracyUnit]:
    """Of latencies, by the shortest median; of the metric."""
    medians = [
        quantile.interval_ns.estimate
        for candidate in result.candidates
        if candidate.latency and (quantile := candidate.latency.quantile(0.5)).interval_ns
    ]
    metrics = [candidate.accuracy.metric for candidate in result.candidates if candidate.accuracy]
    return LatencyUnit.fitting(min(medians, default=1e6)), AccuracyUnit(metric=metrics[0] if metrics else "accuracy")
