"""Today against a kept measurement, on synthetic sessions whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeport.contracts import Change
from edgeport.devices.latency.baseline import compare_with_kept, machine_change
from edgeport.testing.synthetic import SyntheticSession, simulate

KEPT = simulate(SyntheticSession(process_sd=0.003), seed=1)


@pytest.mark.parametrize(
    ("factor", "change"),
    [(1.0, Change.EQUIVALENT), (1.015, Change.UNKNOWN), (1.1, Change.REGRESSED), (0.9, Change.IMPROVED)],
    ids=["equal", "within the delta", "slower", "faster"],
)
def test_only_differences_beyond_the_delta_count(factor, change):
    now = simulate(SyntheticSession(median_ns=1e6 * factor, process_sd=0.003), seed=2)
    comparison, doubt = compare_with_kept(KEPT, now)
    assert comparison.speedup.estimate == pytest.approx(1 / factor, rel=0.01)
    if factor != 1.015:
        assert comparison.change is change
    assert comparison.change not in (Change.SLOWER, Change.FASTER)
    assert not doubt


def test_equal_artifacts_hardly_ever_differ():
    found = [
        compare_with_kept(*(simulate(SyntheticSession(process_sd=0.01), seed=2 * seed + i) for i in (0, 1)))[0].change
        for seed in range(60)
    ]
    assert found.count(Change.REGRESSED) + found.count(Change.IMPROVED) == 0


def test_a_machine_that_got_slower_is_not_a_regression():
    """A neighbour slows every round by 10 %, and the canary with it."""
    now = simulate(SyntheticSession(), seed=3, round_effects=[0.0953] * 10)
    comparison, doubt = compare_with_kept(KEPT, now)
    assert comparison.change is Change.UNKNOWN
    assert "machine itself" in doubt
    assert machine_change(KEPT, now) == pytest.approx(0.1, abs=0.02)


def test_another_device_says_nothing():
    comparison, doubt = compare_with_kept(KEPT, replace(simulate(SyntheticSession(), seed=4), device="another"))
    assert comparison.change is Change.UNKNOWN
    assert "another device" in doubt


def test_one_process_says_nothing():
    comparison, doubt = compare_with_kept(KEPT, simulate(SyntheticSession(), processes=1))
    assert comparison.change is Change.UNKNOWN
    assert doubt
