"""How far processors are apart, as this machine has it."""

from __future__ import annotations

import os
import threading

import pytest

from edgeport.devices.agent import core_latency
from edgeport.devices.agent.core_latency import exchange_ns
from edgeport.devices.agent.telemetry import processors

pinning = pytest.mark.skipif(
    len(processors()) < 2 or not hasattr(os, "sched_setaffinity"),
    reason="one processor, or no thread may choose its own",
)


@pinning
def test_an_exchange_takes_time_and_moves_nothing_but_its_own_threads():
    before, threads = processors(), threading.active_count()
    assert 500 < exchange_ns() < 1e8
    assert processors() == before
    assert threading.active_count() == threads


def test_one_processor_exchanges_with_nobody(monkeypatch):
    monkeypatch.setattr(core_latency, "processors", lambda: [0])
    assert exchange_ns() is None


def test_the_farthest_of_a_few_counts(monkeypatch):
    monkeypatch.setattr(core_latency, "processors", lambda: list(range(16)))
    monkeypatch.setattr(core_latency.os, "sched_setaffinity", lambda *_: None, raising=False)
    asked = []
    monkeypatch.setattr(
        core_latency, "_exchange_ns", lambda writer, reader: asked.append((writer, reader)) or 100 * reader
    )
    assert exchange_ns() == 1100
    assert asked == [(0, 1), (0, 6), (0, 11)]


@pinning
def test_a_processor_that_went_away_is_no_reading(monkeypatch):
    def gone(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(core_latency.os, "sched_setaffinity", gone)
    assert exchange_ns() is None
