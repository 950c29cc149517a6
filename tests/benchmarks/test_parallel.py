"""Throughput is compared within rounds."""

from types import SimpleNamespace

import pytest

from benchmarks.parallel import PIPELINE, WHOLE, gains


def trace(samples, elapsed_s):
    return SimpleNamespace(samples=samples, elapsed_ns=int(1e9 * elapsed_s))


def test_a_slow_round_slows_both_arms():
    slow = (1, 1, 3, 1, 1, 1, 5, 1)
    rounds = [{WHOLE: trace(100, each), PIPELINE: trace(180, each)} for each in slow]
    assert gains(rounds, PIPELINE) == pytest.approx((1.8, 1.8, 1.8))


def test_the_interval_holds_what_differs():
    rounds = [{WHOLE: trace(100, 1), PIPELINE: trace(150 + each, 1)} for each in range(10)]
    low, middle, high = gains(rounds, PIPELINE)
    assert 1.5 < low < middle < high < 1.6
