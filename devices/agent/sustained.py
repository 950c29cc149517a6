"""Calls for minutes or hours, one after the other, as an application that never rests makes them.

What is kept is thinned: of each slot of time as many readings, spread over it, and what the sensors say at its end. So
an hour fits in some megabytes, whatever a call takes.
"""

from __future__ import annotations

import gc
from array import array
from itertools import repeat
from typing import Any, Callable

from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.scenarios import LoopTimes
from edgeport.devices.agent.telemetry import Telemetry

_MOST_SLOTS = 1200
_LEAST_SLOT_S = 0.1
_KEPT_PER_SLOT = 100
_MOST_IN_A_SLOT = 100_000

Run = Callable[[], None]


def sustained(run: Run, job: dict[str, Any], calls_per_reading: int, telemetry: Telemetry) -> LoopTimes:
    """The readings of `_KEPT_PER_SLOT` calls in each slot; how many were kept stands in the slot's telemetry."""
    timed = run if calls_per_reading == 1 else _several(run, calls_per_reading)
    slot_ns = int(1e9 * max(_LEAST_SLOT_S, job["duration_s"] / _MOST_SLOTS))
    readings = array("q", bytes(8 * _MOST_IN_A_SLOT))
    kept = array("q")
    calls = 0
    gc.collect()
    gc.disable()
    try:
        telemetry.sample()
        started_at_ns = after = now_ns()
        deadline = started_at_ns + int(1e9 * job["duration_s"])
        while after < deadline:
            count, after = _slot(timed, readings, min(after + slot_ns, deadline))
            calls += count * calls_per_reading
            chosen = _spread(readings, min(count, _MOST_IN_A_SLOT))
            kept.extend(chosen)
            telemetry.sample(kept_readings=float(len(chosen)))
    finally:
        gc.enable()
    return LoopTimes(started_at_ns, kept.tolist(), calls, after - started_at_ns, calls_per_reading)


def _slot(run: Run, readings: array[int], until: int) -> tuple[int, int]:
    """Fills `readings` in turns until the clock says `until`; how many there were, and what the clock said last."""
    clock = now_ns
    size = len(readings)
    count = 0
    while True:
        before = clock()
        run()
        after = clock()
        readings[count % size] = after - before
        count += 1
        if after >= until:
            return count, after


def _spread(readings: array[int], count: int) -> array[int]:
    step = -(-count // _KEPT_PER_SLOT)
    return readings[:count:step]


def _several(run: Run, calls: int) -> Run:
    def several() -> None:
        for _ in repeat(None, calls):
            run()

    return several
