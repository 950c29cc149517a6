"""Queues whose load is known: a rate that can't be kept is told, a queue that is only long is not."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest

from edgeport.contracts import Measurement, Outcome, ProcessTrace, TimerFacts
from edgeport.devices.latency.overload import kept_rate, overload_flags
from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

SERVICE_NS = 5_000_000


def process(load: float, *, streams: int, queries: int, seed: int) -> ProcessTrace:
    """Poisson arrivals at `load` times what the streams can answer; each call takes 5 ms, give or take 10 %."""
    source = random.Random(seed)
    free = [0.0] * streams
    due, latency, ends = 0.0, [], []
    for _ in range(queries):
        start = max(due, heapq.heappop(free))
        end = start + SERVICE_NS * source.uniform(0.9, 1.1)
        heapq.heappush(free, end)
        latency.append(int(end - due))
        ends.append(end)
        due += source.expovariate(load * streams / SERVICE_NS)
    timer = TimerFacts(clock="queue", resolution_ns=1, overhead_ns=0)
    return ProcessTrace(
        artifact_digest="a", round=seed, position=0, load_ns=1, first_inference_ns=1, warmup_ns=(), timer=timer,
        latency_ns=tuple(latency), scenario="server", samples=queries, elapsed_ns=int(max(ends)),
    )  # fmt: skip


def server(load: float, *, streams: int = 1, queries: int = 100, seed: int = 0) -> Measurement:
    traces = [process(load, streams=streams, queries=queries, seed=100 * seed + index) for index in range(10)]
    return Measurement(artifact_digest="a", device="d", seed=0, traces=tuple(traces))


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("load", [0.2, 0.5, 0.75])
def test_a_rate_that_is_kept_is_not_flagged(load: float, streams: int) -> None:
    flagged = sum(bool(overload_flags(server(load, streams=streams, seed=seed))) for seed in range(100))

    assert flagged <= 5


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("load", [1.25, 2.0])
def test_a_rate_that_is_not_kept_is_flagged(load: float, streams: int) -> None:
    flagged = sum(bool(overload_flags(server(load, streams=streams, seed=seed))) for seed in range(100))

    assert flagged >= 95


def test_the_kept_rate_is_what_was_answered_of_what_came() -> None:
    assert kept_rate(server(2.0, queries=400)) == pytest.approx(0.5, abs=0.05)
    assert kept_rate(server(0.3, queries=400)) > 0.98


def test_an_overload_leaves_quantiles_open() -> None:
    flags = measurement_flags(server(2.0))

    assert "overload" in flags
    assert outcome_of(flags) is Outcome.INCONCLUSIVE


def test_other_scenarios_have_no_rate_to_keep() -> None:
    measured = server(2.0)
    alone = replace(measured, traces=tuple(replace(trace, scenario="single-stream") for trace in measured.traces))

    assert overload_flags(alone) == []
    assert kept_rate(alone) == 1.0
