"""The table of range methods: their names, and those that are read off the statistics."""

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
from edgeport.calibration.ranges import (
    METHODS,
    Auto,
    Average,
    Entropy,
    FixedRange,
    LeastSquares,
    Measured,
    MinMax,
    OneRange,
    Percentile,
    PowerOfTwo,
    describe,
    method_named,
    observers_of,
    range_of,
    resolve,
)
from edgeport.errors import CalibrationError


def test_min_max_is_what_was_seen(statistics):
    assert range_of(MinMax(), statistics(np.array([-2.0, 0.5, 7.0], np.float32))) == (-2.0, 7.0)


@given(
    array=hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)),
    percentile=st.sampled_from([50.5, 90.0, 99.0, 99.9, 99.99, 100.0]),
)
def test_a_percentile_is_at_most_one_bin_outside_of_the_order_statistic(array, percentile, statistics):
    seen = statistics(array)
    low, high = range_of(Percentile(percentile), seen)
    rank = math.ceil(array.size * Fraction(str(percentile)) / 100)
    ordered = np.sort(array).astype(float)
    width = bin_width(seen["histogram"])

    assert 0 <= high - ordered[rank - 1] <= width
    assert 0 <= ordered[array.size - rank] - low <= width
    assert array.min() <= low <= high <= array.max()


def test_a_percentile_leaves_outliers_out_at_both_ends(statistics):
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[:3], values[3:6] = 1000.0, -500.0
    low, high = range_of(Percentile(99.99), statistics(values))
    assert -5 < low < -3 < 3 < high < 5


def test_the_rank_is_exact(statistics):
    values = np.arange(1000, dtype=np.float32) / 1000
    values[-1] = 100.0  # 0.1 % of the values; in floating point 1000 * (99.9 / 100) is more than 999
    assert range_of(Percentile(99.9), statistics(values))[1] < 2.0


def test_the_hundredth_percentile_is_min_max(statistics):
    seen = statistics(np.random.default_rng(1).standard_normal(1000).astype(np.float32))
    assert range_of(Percentile(100.0), seen) == range_of(MinMax(), seen)


@pytest.mark.parametrize("percentile", [50.0, 100.1, -1.0, math.nan])
def test_a_percentile_outside_50_to_100_is_refused(percentile):
    with pytest.raises(CalibrationError, match="above 50 and at most 100"):
        Percentile(percentile)


@pytest.mark.parametrize(
    "method",
    [MinMax(), Average(), Percentile(), Entropy(), LeastSquares(), PowerOfTwo(), Auto()],
    ids=describe,
)
def test_nothing_finite_has_no_range(method, statistics):
    with pytest.raises(CalibrationError, match="no finite value"):
        range_of(method, statistics(np.array([np.nan, np.inf], np.float32)))


def test_a_missing_observer_is_named(statistics):
    seen = statistics(np.ones(3, np.float32))
    del seen["histogram"]
    with pytest.raises(CalibrationError, match="calibrate again with 'histogram'"):
        range_of(Percentile(), seen)


def test_a_method_that_the_table_has_not_is_refused(statistics):
    @dataclass(frozen=True)
    class Guess:
        bins: int = 2048

    assert Guess not in METHODS
    with pytest.raises(CalibrationError, match="Guess"):
        range_of(Guess(), statistics(np.ones(3, np.float32)))


NAMED = [
    ("minmax", MinMax(), "minmax"),
    ("average", Average(), "average"),
    ("percentile", Percentile(99.99), "percentile 99.99"),
    ("percentile:99.9", Percentile(99.9), "percentile 99.9"),
    ("entropy", Entropy(), "entropy"),
    ("mse", LeastSquares(), "mse"),
    ("pow2", PowerOfTwo(), "pow2"),
    ("global", OneRange(), "global"),
    ("global:-6:6.5", FixedRange(-6.0, 6.5), "global -6 6.5"),
    ("auto", Auto(), "auto"),
    ("measured", Measured(), "measured"),
]


@pytest.mark.parametrize(("text", "method", "words"), NAMED, ids=[text for text, *_ in NAMED])
def test_methods_have_names_in_recipes_and_in_tables(text, method, words):
    assert method_named(text) == method
    assert describe(method) == words
    assert set(observers_of(method)) <= set(OBSERVERS)


def test_every_method_has_a_test_of_its_name():
    assert {type(method) for _, method, _ in NAMED} == set(METHODS)
    assert all(type(method_named(row.form)) is known for known, row in METHODS.items())


@pytest.mark.parametrize(
    ("text", "found", "fix"),
    [
        ("", "no such method", "give one of minmax, average"),
        ("entropie", "no such method", "did you mean 'entropy'"),
        ("minmax:1", "1 numbers behind 'minmax'", "give one of"),
        ("percentile:", "could not convert", "percentile:99.99"),
        ("percentile:many", "could not convert", "percentile:99.99"),
        ("percentile:12", "outside 50..100", "above 50 and at most 100"),
        ("global:6", "1 numbers behind 'global'", "global:-6:6"),
        ("global:1:6", "does not hold zero", "global:-6:6"),
        ("global:0:0", "is empty", "global:-6:6"),
        ("global:-inf:6", "not finite", "global:-6:6"),
    ],
)
def test_a_method_that_is_misspelt_is_refused(text, found, fix):
    with pytest.raises(CalibrationError) as caught:
        method_named(text)
    assert found in caught.value.found
    assert fix in caught.value.fix


def test_one_range_is_that_of_the_widest_tensors_together(statistics):
    seen = {
        name: statistics(np.array(ends)) for name, ends in {"a": (-3, 1), "b": (2, 7), "mask": (-np.inf, 0)}.items()
    }
    assert resolve(OneRange(), seen) == FixedRange(-3.0, 7.0)
    assert resolve(MinMax(), seen) == MinMax()
    with pytest.raises(CalibrationError, match="resolve"):
        range_of(OneRange(), seen["a"])


def test_a_model_of_zeros_has_no_one_range(statistics):
    with pytest.raises(CalibrationError, match="other than zero"):
        resolve(OneRange(), {"a": statistics(np.zeros(3))})
