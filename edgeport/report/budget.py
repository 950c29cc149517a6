"""A budget, line by line."""

from __future__ import annotations

from edgeport.contracts import Budget
from edgeport.report.figures import AccuracyUnit, bytes_text, duration_text

__all__ = ["limits"]


def limits(budget: Budget, accuracy: AccuracyUnit) -> list[tuple[str, str]]:
    """What is limited and to what; the accuracy drop first."""
    latency = None
    if budget.latency_ns is not None:
        latency = f"p{100 * budget.latency_quantile:g} at most {duration_text(budget.latency_ns)}"
    rate = budget.throughput_per_s
    bounds = {
        "latency": latency,
        "throughput": f"at least {rate:g} samples a second" if rate is not None else None,
        "peak memory": f"at most {bytes_text(budget.peak_memory_bytes)}" if budget.peak_memory_bytes else None,
        "size": f"at most {bytes_text(budget.size_bytes)}" if budget.size_bytes else None,
        "first inference": f"at most {duration_text(budget.first_inference_ns)}" if budget.first_inference_ns else None,
    }
    lost = f"at most {accuracy.number(budget.accuracy_drop)} {accuracy.difference}"
    return [("accuracy lost", lost), *((name, text) for name, text in bounds.items() if text is not None)]
