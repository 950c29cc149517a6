"""Whether queries came faster than they could be answered ("server"): then latency is only how long one looked."""

from __future__ import annotations

import numpy as np

from edgeport.contracts import Measurement, ProcessTrace

__all__ = ["kept_rate", "overload_flags"]

_LEAST_KEPT = 0.95
_LEAST_QUERIES = 20
_EDGE = 0.25


def overload_flags(measurement: Measurement) -> list[str]:
    """ "overload" where under 95 % of the queries that came were answered in the time in which they came.

    What is left over waits: either it is still there at the end (and is more than one call's worth), or latency grows
    through the run by over 5 % of the time that passes, in most processes. A queue that is only long does neither.
    """  # noqa: D210 (the first word is a quoted flag)
    traces = _of_server(measurement)
    if not traces:
        return []
    late = [_waiting_ns(trace) > _floor_ns(trace) for trace in traces]
    left_over = kept_rate(measurement) < _LEAST_KEPT and float(np.mean(late)) > 0.5
    growing = float(np.mean([_growth(trace) > 1 - _LEAST_KEPT for trace in traces])) > 0.5
    return ["overload"] if left_over or growing else []


def kept_rate(measurement: Measurement) -> float:
    """Queries answered per second over queries that came per second, all processes together; 1 where none came so.

    Both have the same number of queries, so it is the time in which they came over the time in which they were
    answered, less one call: the last one needs that, however idle the rest.
    """
    traces = _of_server(measurement)
    came = sum(trace.elapsed_ns - trace.latency_ns[-1] for trace in traces)
    answered = sum(trace.elapsed_ns - _floor_ns(trace) for trace in traces)
    return min(1.0, came / answered) if answered > 0 else 1.0


def _of_server(measurement: Measurement) -> list[ProcessTrace]:
    return [
        trace
        for trace in measurement.traces
        if trace.scenario == "server" and trace.elapsed_ns and len(trace.latency_ns) >= _LEAST_QUERIES
    ]


def _floor_ns(trace: ProcessTrace) -> float:
    """What a call takes that did not wait."""
    return float(min(trace.latency_ns))


def _waiting_ns(trace: ProcessTrace) -> float:
    """How long the queries of the last quarter waited."""
    last = trace.latency_ns[-max(1, int(_EDGE * len(trace.latency_ns))) :]
    return float(np.median(last)) - _floor_ns(trace)


def _growth(trace: ProcessTrace) -> float:
    """Growth of the latency over the time in which it grew, from the first to the last quarter; 0 where it is small.

    Below one call's time nothing is left over: it is the queue's ups and downs.
    """
    edge = max(1, int(_EDGE * len(trace.latency_ns)))
    first, last = (float(np.median(part)) for part in (trace.latency_ns[:edge], trace.latency_ns[-edge:]))
    if last - first <= _floor_ns(trace):
        return 0.0
    return (last - first) / ((1 - _EDGE) * trace.elapsed_ns)
