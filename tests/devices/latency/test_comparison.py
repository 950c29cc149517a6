from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from edgeport.contracts import Change
from edgeport.devices.latency.comparison import (
    DELTA_FLOOR,
    classify,
    compare,
    device_delta,
    paired_differences,
    paired_interval,
)
from edgeport.testing.synthetic import SyntheticSession, simulate


def _pair(factor=1.0, *, seed=0, **session):
    first = simulate(SyntheticSession(**session), calls=100, seed=2 * seed)
    second = simulate(SyntheticSession(median_ns=1e6 * factor, **session), calls=100, seed=2 * seed + 1)
    return first, second


@pytest.mark.parametrize(
    ("low", "high", "change"),
    [
        (0.001, 0.01, Change.SLOWER),
        (0.03, 0.04, Change.REGRESSED),
        (-0.01, -0.001, Change.FASTER),
        (-0.04, -0.03, Change.IMPROVED),
        (-0.01, 0.01, Change.EQUIVALENT),
        (-0.03, 0.01, Change.UNKNOWN),
        (-math.inf, math.inf, Change.UNKNOWN),
    ],
)
def test_an_interval_has_one_name(low, high, change):
    assert classify(low, high, delta=0.02) is change


@pytest.mark.parametrize(
    ("factor", "change"),
    [
        (1.1, Change.REGRESSED),
        (0.9, Change.IMPROVED),
        (1.012, Change.SLOWER),
        (1 / 1.012, Change.FASTER),
        (1.0, Change.EQUIVALENT),
    ],
)
def test_a_difference_is_named(factor, change):
    comparison = compare(*_pair(factor, process_sd=0.002))
    assert comparison.change is change
    assert comparison.pairs == 10
    assert comparison.speedup.low <= 1 / factor <= comparison.speedup.high


def test_a_speedup_is_old_over_new():
    comparison = compare(*_pair(0.5))
    assert comparison.speedup.estimate == pytest.approx(2.0, rel=0.01)


def test_offline_it_is_throughput_that_is_compared():
    """Three calls under way take longer each than two, and may give more."""

    def offline(measurement, samples_per_s):
        traces = [
            replace(trace, scenario="offline", samples=samples_per_s, elapsed_ns=1_000_000_000)
            for trace in measurement.traces
        ]
        return replace(measurement, traces=tuple(traces))

    two, three = _pair(1.5)
    found = compare(offline(two, 1000), offline(three, 1200))
    assert found.speedup.estimate == pytest.approx(1.2)
    assert found.change is Change.IMPROVED


@pytest.mark.parametrize(("pairs", "finite"), [(2, False), (5, False), (6, True)])
def test_fewer_than_six_pairs_bound_nothing(pairs, finite):
    first, second = _pair(2.0)
    comparison = compare(replace(first, traces=first.traces[:pairs]), second)
    assert comparison.pairs == pairs
    assert (comparison.change is Change.UNKNOWN) is not finite
    assert math.isfinite(comparison.speedup.high) is finite
    assert (comparison.speedup.low > 0) is finite


def test_only_rounds_that_both_ran_are_paired():
    first, second = _pair()
    differences = paired_differences(replace(first, traces=first.traces[3:]), replace(second, traces=second.traces[:8]))
    assert len(differences) == 5
    assert compare(replace(first, traces=()), second).change is Change.UNKNOWN


def test_an_invalid_measurement_leaves_the_change_unknown():
    first, second = _pair(1.5)
    wrong = replace(second, traces=(replace(second.traces[0], outputs_match=False), *second.traces[1:]))
    assert compare(first, second).change is Change.REGRESSED
    assert compare(first, wrong).change is Change.UNKNOWN


@pytest.mark.parametrize("pairs", [6, 9, 12])
def test_the_interval_inverts_the_signed_rank_test(pairs):
    """A shift is inside exactly where the exact two-sided test, counted over all signs, does not reject it."""
    differences = np.random.default_rng(pairs).standard_normal(pairs)
    _, low, high = paired_interval(differences)
    for shift, inside in ((low + 1e-6, True), (high - 1e-6, True), (low - 1e-6, False), (high + 1e-6, False)):
        assert (_exact_p(differences - shift) > 0.05) is inside


def _exact_p(differences):
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return min(1.0, 2 * float(np.mean(np.array(sums) <= observed)))


def test_the_normal_approximation_takes_over_smoothly():
    differences = np.random.default_rng(0).standard_normal(61)
    exact, approximate = paired_interval(differences[:60]), paired_interval(differences)
    assert exact[1:] == pytest.approx(approximate[1:], abs=0.05)


def test_equal_artifacts_raise_few_alarms():
    alarms = [
        compare(*_pair(seed=seed, process_sd=0.03, rho=0.5)).change not in (Change.EQUIVALENT, Change.UNKNOWN)
        for seed in range(100)
    ]
    assert sum(alarms) <= 8


def test_delta_of_a_device_has_a_floor():
    assert device_delta([]) == DELTA_FLOOR
    assert device_delta([0.001, -0.002]) == DELTA_FLOOR
    normal = np.random.default_rng(0).normal(0.0, 0.05, 10_000)
    assert device_delta(normal) == pytest.approx(math.expm1(np.quantile(np.abs(normal), 0.95)), rel=0.03)


def test_a_few_slow_processes_do_not_widen_what_counts_as_equal():
    slow_now_and_then = [0.004, -0.005, 0.003, 0.4, -0.4, -0.004, 0.002, -0.006, 0.005, 0.001]
    assert device_delta(slow_now_and_then) == DELTA_FLOOR


def test_the_delta_is_how_much_an_artifact_differs_from_itself():
    quiet, loud = (
        compare(*(simulate(SyntheticSession(process_sd=sd), seed=seed) for seed in (1, 2))) for sd in (0.002, 0.05)
    )
    assert quiet.delta == DELTA_FLOOR
    assert loud.delta > 0.05
    assert compare(simulate(SyntheticSession()), simulate(SyntheticSession(), seed=1), delta=0.1).delta == 0.1
