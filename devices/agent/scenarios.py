"""How queries arrive: one after the other, several at once, at random times, or all at the start.

The names and their meaning are those of MLPerf Inference (Reddi et al., 2020, section III-B): single-stream,
multi-stream, server, offline. A query is one call, but in multi-stream, where it is one call of every stream.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from array import array
from contextlib import closing, contextmanager
from typing import Any, Callable, Iterator, List

from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.telemetry import INTERVAL_NS, Telemetry

Run = Callable[[], None]
Runs = List[Run]

_WAKE_NS = 300_000  # sleeping ends late by up to this much; the rest of the wait is spun
_ROUNDS_BEFORE = 3


class LoopTimes:
    """What a loop saw.

    Attributes:
        started_at_ns: Start of the first timed query, on the trace's clock.
        latency_ns: Of each query, in the order of their start.
        calls: How many there were, all queries together.
        elapsed_ns: From the first start to the last end.
        calls_per_reading: Calls in each of `latency_ns`.

    """

    def __init__(
        self, started_at_ns: int, latency_ns: list[int], calls: int, elapsed_ns: int, calls_per_reading: int = 1
    ) -> None:
        self.started_at_ns = started_at_ns
        self.latency_ns = latency_ns
        self.calls = calls
        self.elapsed_ns = elapsed_ns
        self.calls_per_reading = calls_per_reading


def multi_stream(runs: Runs, job: dict[str, Any], telemetry: Telemetry) -> LoopTimes:
    """Queries of one call per stream, each query when the one before is done; its latency is that of its last call."""
    most, least = job["maximum_calls"], job["minimum_calls"]
    readings = array("q")
    clock = now_ns
    with closing(_Crew(runs)) as crew, _quiet_collector():
        for _ in range(_ROUNDS_BEFORE):
            crew.run()
        telemetry.sample()
        started_at_ns = look = clock()
        deadline = started_at_ns + int(1e9 * job["duration_s"])
        after = started_at_ns
        while len(readings) < most and (after < deadline or len(readings) < least):
            before = clock()
            crew.run()
            after = clock()
            readings.append(after - before)
            if after - look >= INTERVAL_NS:
                telemetry.sample()
                look = clock()
        telemetry.sample()
    return LoopTimes(started_at_ns, readings.tolist(), len(readings) * len(runs), sum(readings))


def offline(runs: Runs, job: dict[str, Any], telemetry: Telemetry) -> LoopTimes:
    """Every stream calls as fast as it can; what counts is how many calls end in the time that all of them took."""
    least = max(1, job["minimum_calls"] // len(runs))
    taken: list[list[tuple[int, int]]] = [[] for _ in runs]
    clock = now_ns

    def stream(index: int, deadline: int) -> None:
        run, own = runs[index], taken[index]
        while True:
            before = clock()
            run()
            after = clock()
            own.append((before, after - before))
            if after >= deadline and len(own) >= least:
                return

    started_at_ns, ended_at_ns = _in_threads(stream, job, len(runs), telemetry)
    calls = sorted(one for own in taken for one in own)
    return LoopTimes(started_at_ns, [latency for _, latency in calls], len(calls), ended_at_ns - started_at_ns)


def server(runs: Runs, job: dict[str, Any], telemetry: Telemetry) -> LoopTimes:
    """Queries arrive at times of their own, however long the ones before take (Poisson, seeded, `rate_per_s`).

    The latency of a query counts from when it was *due*, so that a stall is felt by every query that waited for it.
    """
    due_ns = arrivals_ns(job["rate_per_s"], job["duration_s"], job["minimum_calls"], job["seed"] + job["round"])
    latency = [0] * len(due_ns)
    waiting = iter(range(len(due_ns)))
    lock = threading.Lock()
    origin: list[int] = []

    def stream(index: int, deadline: int) -> None:
        run = runs[index]
        with lock:
            if not origin:
                origin.append(deadline - int(1e9 * job["duration_s"]))
        while True:
            with lock:
                query = next(waiting, None)
            if query is None:
                return
            due = origin[0] + due_ns[query]
            _wait_until(due)
            run()
            latency[query] = now_ns() - due

    started_at_ns, ended_at_ns = _in_threads(stream, job, len(runs), telemetry)
    return LoopTimes(started_at_ns, latency, len(latency), ended_at_ns - started_at_ns)


def arrivals_ns(rate_per_s: float, duration_s: float, least: int, seed: int) -> list[int]:
    """Times since the start, nanoseconds, of a Poisson process of this rate; at least `least` of them."""
    source = random.Random(seed)  # noqa: S311 (arrivals, no secret)
    times: list[int] = []
    at_s = 0.0
    while at_s < duration_s or len(times) < least:
        times.append(int(1e9 * at_s))
        at_s += source.expovariate(rate_per_s)
    return times


def _in_threads(
    stream: Callable[[int, int], None], job: dict[str, Any], count: int, telemetry: Telemetry
) -> tuple[int, int]:
    """Runs `stream(index, deadline)` in `count` threads at once; when they started, and when the last one ended."""
    failed: list[BaseException] = []
    start = threading.Barrier(count + 1)
    deadlines: list[int] = []
    ends: list[int] = []

    def body(index: int) -> None:
        try:
            start.wait()
            stream(index, deadlines[0])
        except BaseException as error:  # noqa: BLE001 (told by the thread that waits)
            failed.append(error)
        finally:
            ends.append(now_ns())

    threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(count)]
    with _quiet_collector():
        telemetry.sample()
        for thread in threads:
            thread.start()
        started_at_ns = now_ns()
        deadlines.append(started_at_ns + int(1e9 * job["duration_s"]))
        start.wait()
        for thread in threads:
            while thread.is_alive():
                thread.join(INTERVAL_NS / 1e9)
                telemetry.sample()
    if failed:
        raise failed[0]
    return started_at_ns, max(ends)


def _wait_until(due_ns: int) -> None:
    left = due_ns - now_ns() - _WAKE_NS
    if left > 0:
        time.sleep(left / 1e9)
    while now_ns() < due_ns:
        time.sleep(0)


@contextmanager
def _quiet_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Crew:
    """One call per stream, at the same time: the caller's thread runs the first, a waiting thread each of the others.

    Plain locks wake a thread in some microseconds; anything of `threading` that is built on them takes longer.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._go = [threading.Lock() for _ in runs[1:]]
        self._done = [threading.Lock() for _ in runs[1:]]
        self._failed: list[BaseException] = []
        self._closed = False
        for index, (go, done) in enumerate(zip(self._go, self._done)):
            go.acquire()
            done.acquire()
            threading.Thread(target=self._work, args=(index,), daemon=True).start()

    def run(self) -> None:
        """One query: all streams, until the last one is done."""
        for go in self._go:
            go.release()
        self._runs[0]()
        for done in self._done:
            done.acquire()
        if self._failed:
            raise self._failed[0]

    def close(self) -> None:
        """Ends the waiting threads."""
        self._closed = True
        for go in self._go:
            go.release()

    def _work(self, index: int) -> None:
        run, go, done = self._runs[index + 1], self._go[index], self._done[index]
        while True:
            go.acquire()
            if self._closed:
                return
            try:
                run()
            except BaseException as error:  # noqa: BLE001 (raised where the query was made)
                self._failed.append(error)
            done.release()
