"""The clock: how fine it is, what reading it costs, and whether somebody set it."""

from __future__ import annotations

import time
from array import array
from typing import Any, Callable

now_ns = time.perf_counter_ns

_PROBES = 20_000
_FEW_STEPS = 4
_INTERRUPTED = 10


def measure_timer(clock: Callable[[], int] = now_ns, probes: int = _PROBES) -> dict[str, Any]:
    """Resolution and overhead of a clock.

    Args:
        clock: Returns nanoseconds.
        probes: Readings in each of the two series.

    Returns:
        The fields of `TimerFacts`: the step of the clock (see `_resolution_ns`), and the median of a timed nothing.

    """
    readings = array("q", bytes(8 * probes))
    for index in range(probes):
        readings[index] = clock()
    resolution_ns = _resolution_ns([after - before for before, after in zip(readings, readings[1:])])
    for index in range(probes):
        before = clock()
        after = clock()
        readings[index] = after - before
    return {
        "clock": "CLOCK_MONOTONIC"
        if "MONOTONIC" in time.get_clock_info("perf_counter").implementation
        else "perf_counter",
        "resolution_ns": resolution_ns,
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


def _resolution_ns(steps: list[int]) -> int:
    """The step of a clock whose neighbouring readings are `steps` apart.

    Where two readings were equal, the clock is slower than reading it, and the smallest step is its own. Else the
    smallest step is the cost of reading it, and steps of 50, 51, 60, 61, 70 ... ns show a clock of 10 ns: the larger
    half of the gaps between them tells, whatever the rounding to whole nanoseconds. Steps far above the median one are
    interruptions: each is as long as it happens to be, so that on a busy machine there are more of them than of others.
    """
    most = _INTERRUPTED * sorted(steps)[len(steps) // 2]
    positive = sorted({step for step in steps if step > 0 and (step <= most or not most)})
    if 0 in steps or len(positive) < _FEW_STEPS:
        return positive[0] if positive else _reported_resolution_ns()
    gaps = sorted(after - before for before, after in zip(positive, positive[1:]))
    return gaps[len(gaps) // 2]


def _reported_resolution_ns() -> int:
    return max(1, int(time.get_clock_info("perf_counter").resolution * 1e9))
