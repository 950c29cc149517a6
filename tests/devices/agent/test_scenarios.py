"""Each scenario's loop, over calls that sleep: several of them overlap even on one processor."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from edgeport.devices.agent.scenarios import arrivals_ns, multi_stream, offline, server
from edgeport.devices.agent.telemetry import Telemetry

CALL_S = 0.01
JOB = {"duration_s": 0.3, "minimum_calls": 4, "maximum_calls": 1000, "rate_per_s": 50.0, "seed": 1, "round": 0}


def _sleep():
    time.sleep(CALL_S)


def test_a_query_of_several_streams_takes_as_long_as_its_slowest_call():
    timed = multi_stream([_sleep, lambda: time.sleep(2 * CALL_S), _sleep], JOB, Telemetry())
    assert timed.calls == 3 * len(timed.latency_ns)
    assert min(timed.latency_ns) / 1e9 >= 2 * CALL_S
    assert np.median(timed.latency_ns) / 1e9 < 3.5 * CALL_S  # not 4, one after the other


def test_offline_streams_overlap():
    timed = offline([_sleep] * 4, JOB, Telemetry())
    per_s = timed.calls / (timed.elapsed_ns / 1e9)
    assert 2 / CALL_S < per_s <= 4 / CALL_S
    assert len(timed.latency_ns) == timed.calls


def test_a_server_counts_from_when_a_query_was_due():
    """A stall of 100 ms at 50 queries a second delays those that arrive meanwhile too."""
    calls = []

    def stalls():
        calls.append(None)
        time.sleep(0.1 if len(calls) == 4 else 0.0005)

    job = {**JOB, "duration_s": 0.6}
    latency = np.array(server([stalls], job, Telemetry()).latency_ns) / 1e6
    assert latency.max() >= 100.0
    assert np.count_nonzero(latency > 15.0) >= 3
    assert np.median(latency) < 15.0


def test_a_server_that_is_too_slow_falls_ever_further_behind():
    latency = server([_sleep], {**JOB, "rate_per_s": 200.0}, Telemetry()).latency_ns
    tenth = len(latency) // 10
    assert np.median(latency[-tenth:]) > 3 * np.median(latency[:tenth])


def test_several_streams_serve_at_once():
    one, four = (
        np.median(server([_sleep] * count, {**JOB, "rate_per_s": 200.0}, Telemetry()).latency_ns) for count in (1, 4)
    )
    assert four < one / 3


def test_arrivals_are_a_seeded_poisson_process():
    times = np.array(arrivals_ns(1000.0, 5.0, 0, seed=3))
    assert list(times) == arrivals_ns(1000.0, 5.0, 0, seed=3)
    gaps = np.diff(times) / 1e6
    assert gaps.mean() == pytest.approx(1.0, rel=0.05)
    assert gaps.std() == pytest.approx(1.0, rel=0.05)  # of an exponential, as large as the mean
    assert len(arrivals_ns(1.0, 0.1, 7, seed=0)) == 7


@pytest.mark.parametrize("loop", [multi_stream, offline, server], ids=lambda loop: loop.__name__)
def test_a_call_that_fails_ends_the_loop_and_no_thread_stays(loop):
    before = threading.active_count()

    def fails():
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        loop([_sleep, fails], JOB, Telemetry())
    until = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert gc.isenabled()
