from __future__ import annotations

import math

import numpy as np
import pytest

from edgeport.devices.latency.autocorrelation import correlation_time
from edgeport.devices.latency.quantiles import (
    aligned,
    between_processes,
    estimate_quantile,
    least_effective_calls,
    order_statistics,
)
from edgeport.devices.latency.timer import call_latency_ns
from edgeport.testing.synthetic import SyntheticSession, simulate


def _series(session, **size):
    return [call_latency_ns(trace) for trace in simulate(session, **size).traces]


@pytest.mark.parametrize(("q", "least"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.1, 36)])
def test_the_least_number_of_calls_is_the_methods(q, least):
    assert least_effective_calls(q) == least


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_one_call_fewer_than_the_least_leaves_the_interval_open(q):
    least = least_effective_calls(q)
    values = np.arange(1.0, least + 1)
    assert math.isfinite(order_statistics(values, q, effective=least).high)
    interval = order_statistics(values[:-1], q, effective=least - 1)
    assert interval.low == 0.0 or math.isinf(interval.high)


def test_order_statistics_of_ten_calls():
    # Of 10 calls the 2nd and 9th bound the median with 97.9 % (David and Nagaraja, table 7.1.1).
    interval = order_statistics(np.arange(1.0, 11), 0.5, effective=10)
    assert (interval.low, interval.high) == (2.0, 9.0)


def test_ranks_are_mapped_back_from_fewer_effective_calls():
    independent = order_statistics(np.arange(1.0, 1001), 0.5, effective=1000)
    dependent = order_statistics(np.arange(1.0, 1001), 0.5, effective=250)
    assert dependent.high - dependent.low == pytest.approx(2 * (independent.high - independent.low), rel=0.1)


@pytest.mark.parametrize(("rho", "tau"), [(0.0, 1.0), (0.5, 2.1), (0.8, 5.5)])
def test_correlation_time_of_ar1(rho, tau):
    # Of the indicator of the median of a Gaussian AR(1): rho_k = 2/pi asin(rho^k), summed until 0.05.
    series = _series(SyntheticSession(rho=rho), processes=20, calls=1000, seed=2)
    assert correlation_time(series, 0.5) == pytest.approx(tau, rel=0.15)


def test_offsets_of_processes_are_no_correlation_of_calls():
    series = _series(SyntheticSession(process_sd=0.2), processes=10, calls=500, seed=3)
    assert correlation_time(series, 0.5) < 1.2


def test_constant_calls_have_no_correlation():
    assert correlation_time([np.full(100, 5.0)] * 3, 0.5) == 1.0
    assert correlation_time([], 0.5) == 1.0


@pytest.mark.parametrize(
    ("processes", "calls", "q", "says"),
    [
        (1, 1000, 0.5, "one process says nothing"),
        (3, 1, 0.5, "3 calls; p50 needs 12"),
        (3, 20, 0.9, "60 calls; p90 needs 72"),
        (10, 70, 0.99, "700 calls; p99 needs 736"),
    ],
)
def test_too_few_calls_are_refused(processes, calls, q, says):
    quantile = estimate_quantile(_series(SyntheticSession(), processes=processes, calls=calls), q)
    assert quantile.interval_ns is None
    assert says in quantile.refused


def test_a_tail_of_batched_calls_is_refused_and_the_median_is_not():
    series = _series(SyntheticSession(), processes=4, calls=200)
    assert "clock is too coarse" in estimate_quantile(series, 0.9, calls_per_reading=8).refused
    assert estimate_quantile(series, 0.5, calls_per_reading=8).interval_ns is not None


def test_a_tail_of_strongly_correlated_calls_rests_on_processes_or_is_refused():
    refused = estimate_quantile(_series(SyntheticSession(rho=0.95), processes=10, calls=300), 0.9)
    assert "correlated over" in refused.refused
    series = _series(SyntheticSession(rho=0.95), processes=10, calls=3000)
    tau = correlation_time(series, 0.9)
    assert estimate_quantile(series, 0.9).interval_ns == between_processes(series, 0.9, tau=tau)


def test_processes_that_differ_widen_the_interval():
    alike = estimate_quantile(_series(SyntheticSession(), seed=4), 0.5).interval_ns
    apart = estimate_quantile(_series(SyntheticSession(process_sd=0.03), seed=4), 0.5).interval_ns
    assert (apart.high - apart.low) > 5 * (alike.high - alike.low)


def test_aligned_processes_have_one_median():
    series = _series(SyntheticSession(process_sd=0.2), seed=5)
    medians = {round(float(np.median(values)), 3) for values in aligned(series)}
    assert len(medians) == 1


def test_more_processes_narrow_the_interval():
    series = _series(SyntheticSession(process_sd=0.03), processes=40, calls=50, seed=6)
    many = between_processes(series, 0.5, tau=1.0)
    few = between_processes(series[:10], 0.5, tau=1.0)
    assert math.log(many.high / many.low) < 0.7 * math.log(few.high / few.low)


COVERAGE_RUNS = 150


@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize("process_sd", [0.0, 0.03])
def test_intervals_cover_the_truth(rho, process_sd):
    session = SyntheticSession(rho=rho, process_sd=process_sd)
    covered = {0.5: 0, 0.9: 0}
    for seed in range(COVERAGE_RUNS):
        series = _series(session, processes=10, calls=150, seed=seed)
        for q in covered:
            interval = estimate_quantile(series, q).interval_ns
            covered[q] += interval.low <= session.quantile_ns(q) <= interval.high
    # 150 runs at the promised 93 % fall below this once in 200 times; the seeds are fixed.
    assert min(covered.values()) >= 0.875 * COVERAGE_RUNS
