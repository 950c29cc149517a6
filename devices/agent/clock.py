"""The clock: how fine it is, what reading it costs, and whether somebody set it."""

from __future__ import annotations

import time
from array import array
from typing import Any, Callable

now_ns = time.perf_counter_ns

_PROBES = 20_000


def measure_timer(clock: Callable[[], int] = now_ns, probes: int = _PROBES) -> dict[str, Any]:
    """Resolution and overhead of a clock.

    Args:
        clock: Returns nanoseconds.
        probes: Readings in each of the two series.

    Returns:
        The fields of `TimerFacts`: the smallest step above 0 that two neighbouring readings showed, and the median
        of a timed nothing.

    """
    readings = array("q", bytes(8 * probes))
    for index in range(probes):
        readings[index] = clock()
    steps = [after - before for before, after in zip(readings, readings[1:]) if after > before]
    for index in range(probes):
        before = clock()
        after = clock()
        readings[index] = after - before
    return {
        "clock": "CLOCK_MONOTONIC"
        if "MONOTONIC" in time.get_clock_info("perf_counter").implementation
        else "perf_counter",
        "resolution_ns": min(steps) if steps else _reported_resolution_ns(),
        "overhead_ns": sorted(readings)[probes // 2],
    }


def wall_offset_ns(clock: Callable[[], int] = now_ns, wall: Callable[[], int] = time.time_ns) -> int:
    """Wall clock minus monotonic clock.

    Both are slewed alike, so that a change between two looks means that the wall clock was set, or that the machine
    slept. The tightest of three looks counts: being interrupted between the two readings is not a step.
    """
    looks = []
    for _ in range(3):
        before = clock()
        there = wall()
        after = clock()
        looks.append((after - before, there - (before + after) // 2))
    return min(looks)[1]


def _reported_resolution_ns() -> int:
    return max(1, int(time.get_clock_info("perf_counter").resolution * 1e9))
