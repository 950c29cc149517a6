"""Range methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.calibration.observers import OBSERVERS
from edgeport.calibration.observers.histogram import bin_width
from edgeport.calibration.ranges import METHODS, MinMax, Percentile, describe, method_named, range_of
from edgeport.errors import CalibrationError


def statistics(array):
    observers = {name: observer() for name, observer in OBSERVERS.items()}
    for observer in observers.values():
        observer.update(array)
    return {name: observer.state() for name, observer in observers.items()}


def test_min_max_is_what_was_seen():
    assert range_of(MinMax(), statistics(np.array([-2.0, 0.5, 7.0], np.float32))) == (-2.0, 7.0)


@given(
    array=hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)),
    percentile=st.sampled_from([50.5, 90.0, 99.0, 99.9, 99.99, 100.0]),
)
def test_a_percentile_is_at_most_one_bin_outside_of_the_order_statistic(array, percentile):
    seen = statistics(array)
    low, high = range_of(Percentile(percentile), seen)
    rank = math.ceil(array.size * Fraction(str(percentile)) / 100)
    ordered = np.sort(array).astype(float)
    width = bin_width(seen["histogram"])

    assert 0 <= high - ordered[rank - 1] <= width
    assert 0 <= ordered[array.size - rank] - low <= width
    assert array.min() <= low <= high <= array.max()


def test_a_percentile_leaves_outliers_out_at_both_ends():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[:3], values[3:6] = 1000.0, -500.0
    low, high = range_of(Percentile(99.99), statistics(values))
    assert -5 < low < -3 < 3 < high < 5


def test_the_rank_is_exact():
    values = np.arange(1000, dtype=np.float32) / 1000
    values[-1] = 100.0  # 0.1 % of the values; in floating point 1000 * (99.9 / 100) is more than 999
    assert range_of(Percentile(99.9), statistics(values))[1] < 2.0


def test_the_hundredth_percentile_is_min_max():
    seen = statistics(np.random.default_rng(1).standard_normal(1000).astype(np.float32))
    assert range_of(Percentile(100.0), seen) == range_of(MinMax(), seen)


@pytest.mark.parametrize("percentile", [50.0, 100.1, -1.0, math.nan])
def test_a_percentile_outside_50_to_100_is_refused(percentile):
    with pytest.raises(CalibrationError, match="above 50 and at most 100"):
        Percentile(percentile)


@pytest.mark.parametrize("method", [MinMax(), Percentile()], ids=describe)
def test_nothing_finite_has_no_range(method):
    with pytest.raises(CalibrationError, match="no finite value"):
        range_of(method, statistics(np.array([np.nan, np.inf], np.float32)))


def test_a_missing_observer_is_named():
    seen = statistics(np.ones(3, np.float32))
    del seen["histogram"]
    with pytest.raises(CalibrationError, match="calibrate again with 'histogram'"):
        range_of(Percentile(), seen)


def test_a_method_that_the_table_has_not_is_refused():
    @dataclass(frozen=True)
    class Entropy:
        bins: int = 2048

    assert Entropy not in METHODS
    with pytest.raises(CalibrationError, match="Entropy"):
        range_of(Entropy(), statistics(np.ones(3, np.float32)))


def test_methods_are_described_in_a_few_words():
    assert [describe(MinMax()), describe(Percentile(99.9))] == ["minmax", "percentile 99.9"]


@pytest.mark.parametrize(
    ("text", "method"),
    [("minmax", MinMax()), ("percentile", Percentile(99.99)), ("percentile:99.9", Percentile(99.9))],
)
def test_methods_have_names_in_recipes(text, method):
    assert method_named(text) == method


@pytest.mark.parametrize("text", ["", "entropy", "minmax:1", "percentile:", "percentile:many", "percentile:12"])
def test_a_method_that_is_misspelt_is_refused(text):
    with pytest.raises(CalibrationError, match="above 50 and at most 100"):
        method_named(text)
