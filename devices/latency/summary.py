"""What the traces of one artifact say, in the numbers that tables show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeport.contracts import Interval, LatencySummary, Measurement, Outcome, Roof, Work
from edgeport.devices.latency.autocorrelation import correlation_time
from edgeport.devices.latency.effects import effect_flags
from edgeport.devices.latency.energy import energy
from edgeport.devices.latency.quantiles import estimate_quantile
from edgeport.devices.latency.roofline import roofline, roofline_flags
from edgeport.devices.latency.steady_portion import over_processes, steady_latencies, steady_states
from edgeport.devices.latency.steady_state import Shape
from edgeport.devices.latency.telemetry import idle_samples
from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of
from edgeport.errors import MeasurementError

__all__ = ["summarise", "throughput_per_s", "with_roofline"]

_MEDIAN = 0.5
_LEAST_STEADY = 0.5


def summarise(
    measurement: Measurement, quantiles: Sequence[float] = (0.5, 0.9), *, confidence: float = 0.95
) -> LatencySummary:
    """Quantiles with intervals, load and first inference, memory, and whether they may be used.

    Args:
        measurement: At least one trace.
        quantiles: 0..1; the median comes first in any case.
        confidence: Of the intervals.

    Returns:
        A summary whose outcome is INVALID where a flag forbids its use, INCONCLUSIVE where the median was refused or
        processes did not come to rest, PASS else (a budget is not judged here).

    Raises:
        MeasurementError: There are no traces.

    """
    if not measurement.traces:
        raise MeasurementError(
            asked="summarise a measurement", found="no traces", fix="measure again, and look at the arm's error"
        )
    series = steady_latencies(measurement)
    calls_per_reading = max(trace.calls_per_reading for trace in measurement.traces)
    wanted = [_MEDIAN, *sorted(set(quantiles) - {_MEDIAN})]
    found = tuple(
        estimate_quantile(series, q, calls_per_reading=calls_per_reading, confidence=confidence) for q in wanted
    )
    tau = correlation_time(series, _MEDIAN)
    steady = float(np.mean([state.shape is Shape.STEADY for state in steady_states(measurement)]))
    flags = tuple(sorted({*measurement_flags(measurement), *effect_flags(series)}))
    calls = sum(map(len, series)) * calls_per_reading
    outcome = outcome_of(flags)
    if outcome is Outcome.PASS and (found[0].interval_ns is None or steady < _LEAST_STEADY):
        outcome = Outcome.INCONCLUSIVE
    return LatencySummary(
        quantiles=found,
        processes=len(measurement.traces),
        calls=calls,
        effective_calls=calls / tau,
        correlation_time=tau,
        steady=steady,
        load_ns=_load_ns(measurement, cold=False),
        first_load_ns=_load_ns(measurement, cold=True) if any(trace.cold for trace in measurement.traces) else None,
        first_inference_ns=float(np.median([trace.first_inference_ns for trace in measurement.traces])),
        peak_memory_bytes=max(trace.peak_memory_bytes for trace in measurement.traces),
        outcome=outcome,
        flags=flags,
        scenario=measurement.traces[0].scenario,
        throughput_per_s=throughput_per_s(measurement, confidence=confidence),
        energy=energy(measurement, confidence=confidence) if any(map(idle_samples, measurement.traces)) else None,
    )


def with_roofline(summary: LatencySummary, work: Work, roof: Roof) -> LatencySummary:
    """The summary with its place under the device's roof, and what that says of its worth."""
    median = summary.quantile(_MEDIAN).interval_ns
    if median is None:
        return summary
    found = roofline(median.estimate, work, roof)
    flags = tuple(sorted({*summary.flags, *roofline_flags(found)}))
    worst = outcome_of(flags)
    outcome = summary.outcome if worst is Outcome.PASS else worst
    return replace(summary, roofline=found, flags=flags, outcome=outcome)


def throughput_per_s(measurement: Measurement, *, confidence: float = 0.95) -> Interval | None:
    """Samples per second: Student's t interval over the processes' own rates; None where samples were not counted."""
    counted = [trace for trace in measurement.traces if trace.samples and trace.elapsed_ns]
    if len(counted) < len(measurement.traces):
        return None
    return over_processes([1e9 * trace.samples / trace.elapsed_ns for trace in counted], confidence=confidence)


def _load_ns(measurement: Measurement, *, cold: bool) -> float:
    loads = [trace.load_ns for trace in measurement.traces if trace.cold is cold]
    return float(np.median(loads or [trace.load_ns for trace in measurement.traces]))
