from __future__ import annotations

from itertools import accumulate, count, cycle

from edgeport.devices.agent.clock import measure_timer, now_ns, wall_offset_ns


def test_resolution_is_the_smallest_step_that_was_seen():
    ticks = count()
    timer = measure_timer(clock=lambda: next(ticks) // 3 * 250, probes=300)
    assert timer["resolution_ns"] == 250
    assert timer["overhead_ns"] in (0, 250)


def test_the_cost_of_a_reading_is_not_taken_for_the_step():
    """A clock of 10 ns that takes 70 to 110 ns to read, rounded up and down to whole nanoseconds."""
    now = accumulate(cycle((70, 81, 90, 99, 80, 110, 71, 80)))
    assert 8 <= measure_timer(clock=lambda: next(now), probes=300)["resolution_ns"] <= 11


def test_interruptions_are_not_taken_for_the_step():
    steps = [70, 81, 90, 99, 80, 110, 71, 80] * 40
    steps[7::8] = [5_000 + 977 * index * index for index in range(40)]  # each of another length
    now = accumulate(cycle(steps))
    assert 8 <= measure_timer(clock=lambda: next(now), probes=300)["resolution_ns"] <= 11


def test_a_clock_that_stands_still_has_the_resolution_it_reports():
    assert measure_timer(clock=lambda: 5, probes=10)["resolution_ns"] >= 1


def test_the_real_clock_is_fine_enough():
    timer = measure_timer(probes=5000)
    assert 1 <= timer["resolution_ns"] < 100_000
    assert timer["overhead_ns"] < 100_000
    assert timer["clock"]


def test_the_wall_offset_takes_the_tightest_look():
    readings = iter([0, 9_000_000, 10, 20, 30, 50])  # the first look was interrupted for 9 ms
    walls = iter([1_000_000_000, 1_000_000_015, 1_000_000_040])
    assert wall_offset_ns(clock=lambda: next(readings), wall=lambda: next(walls)) == 1_000_000_000


def test_the_wall_offset_stays_while_nobody_sets_the_clock():
    first = wall_offset_ns()
    until = now_ns() + 20_000_000
    while now_ns() < until:
        pass
    assert abs(wall_offset_ns() - first) < 5_000_000
