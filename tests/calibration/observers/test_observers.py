"""Observers: what they keep is exact, and does not depend on how the values came."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.calibration.observers import OBSERVERS, Extremes, Histogram, merge_statistics
from edgeport.calibration.observers.averages import mean_extremes
from edgeport.calibration.observers.histogram import (
    BINS,
    MOST_VALUES,
    bin_width,
    left_edges,
    most_values,
    summary_of,
    thinned,
)
from edgeport.calibration.observers.summary import joined
from edgeport.calibration.ranges import Entropy, LeastSquares, Percentile, Scheme, grid_of, range_of
from edgeport.calibration.ranges.error import density_of, mean_squared_error
from edgeport.errors import CalibrationError

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=8), elements=FLOATS)
PARTS = st.lists(ARRAYS, min_size=1, max_size=5)


def observe(name, arrays):
    observer = OBSERVERS[name]()
    for array in arrays:
        observer.update(array)
    return observer.state()


def as_bytes(state):
    return {key: (str(array.dtype), array.shape, array.tobytes()) for key, array in state.items()}


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@given(parts=PARTS, data=st.data())
def test_merging_equals_having_seen_everything_whatever_the_order(name, parts, data):
    states = [observe(name, [part]) for part in parts]
    shuffled = data.draw(st.permutations(states))
    cut = data.draw(st.integers(1, len(states)))
    merge = OBSERVERS[name].merge
    nested = merge([merge(shuffled[:cut]), *shuffled[cut:]])

    assert as_bytes(merge(states)) == as_bytes(nested) == as_bytes(observe(name, parts))


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@given(array=ARRAYS)
def test_how_values_are_cut_into_arrays_does_not_show(name, array):
    rows = [array[i : i + 1] for i in range(len(array))]
    assert as_bytes(observe(name, [array])) == as_bytes(observe(name, rows))


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@given(parts=PARTS)
def test_one_look_for_all_observers_is_as_good_as_one_each(name, parts):
    observer = OBSERVERS[name]()
    for part in parts:
        summary = summary_of(part)
        if summary is None:
            observer.update(part)
        else:
            observer.update_by(summary)
    assert as_bytes(observer.state()) == as_bytes(observe(name, parts))


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@given(parts=PARTS)
def test_looks_that_are_joined_are_as_good_as_one_each(name, parts):
    looks = {id(part): summary_of(part) for part in parts}
    seen = [part for part in parts if looks[id(part)] is not None]
    assume(seen)
    observer = OBSERVERS[name]()
    observer.update_by(joined([looks[id(part)] for part in seen]))
    assert as_bytes(observer.state()) == as_bytes(observe(name, seen))


@pytest.mark.parametrize("name", ["extremes", "histogram"])
@given(array=ARRAYS)
def test_how_values_are_grouped_into_samples_does_not_show(name, array):
    flat = array.reshape(-1)
    assert as_bytes(observe(name, [array])) == as_bytes(observe(name, [flat[i : i + 1] for i in range(flat.size)]))


@given(array=hnp.arrays(np.float32, (6, 3), elements=FLOATS))
def test_averages_are_exact_sums_of_the_samples_finite_extremes(array):
    finite = [row[np.isfinite(row)] for row in array]
    lowest, highest = ([Fraction(float(of(row))) for row in finite if row.size] for of in (np.min, np.max))
    mean = mean_extremes(observe("averages", [array]))
    if lowest:
        assert mean == (float(sum(lowest) / len(lowest)), float(sum(highest) / len(highest)))
    else:
        assert mean is None


def test_averages_of_the_largest_numbers_do_not_overflow():
    largest = np.full((1000, 2), np.finfo(np.float32).max)
    assert mean_extremes(observe("averages", [largest, -largest])) == (0.0, 0.0)


@given(array=hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_each_value_is_counted_in_the_bin_that_holds_it(array):
    state = observe("histogram", [array])
    edges = left_edges(state)
    holds = np.searchsorted(edges, array.astype(np.float64), side="right") - 1

    assert edges[0] <= array.min() <= array.max() < edges[-1] + bin_width(state)
    assert np.array_equal(state["counts"], np.bincount(holds, minlength=BINS))


@given(largest=st.floats(2.0**-100, 2.0**126, width=32))
def test_bins_are_as_narrow_as_the_largest_magnitude_allows(largest):
    width = bin_width(observe("histogram", [np.array([-largest, 0.0], np.float32)]))
    assert BINS // 4 <= largest / width <= BINS // 2


def test_a_histogram_keeps_its_size_as_ranges_and_values_grow():
    observer = Histogram()
    for exponent in range(-20, 20):
        observer.update(np.full(1000, 2.0**exponent, np.float32))
    assert observer.state()["counts"].shape == (BINS,)
    assert observer.state()["counts"].sum() == 40_000


def test_chunks_do_not_show():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32) * np.geomspace(1, 1e4, 100_000)
    whole = observe("histogram", [values])
    expected = np.floor(values.astype(np.float32).astype(np.float64) / bin_width(whole)).astype(int) + BINS // 2
    assert np.array_equal(whole["counts"], np.bincount(expected, minlength=BINS))


@pytest.mark.parametrize("field", ["minimum", "maximum"])
def test_which_zero_came_first_does_not_show(field):
    zeros = [np.array([zero], np.float32) for zero in (-0.0, 0.0)]
    assert not np.signbit([observe("extremes", order)[field] for order in (zeros, zeros[::-1], zeros[:1])]).any()


def test_extremes_count_what_is_not_finite():
    state = observe("extremes", [np.array([1.0, np.nan, -3.0], np.float32), np.array([np.inf, -np.inf], np.float32)])
    assert (state["minimum"], state["maximum"]) == (-3.0, 1.0)
    assert (state["count"], state["nonfinite"]) == (5, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_taken_as_float32(dtype):
    array = np.array([-1.5, 2.0], dtype)
    for name in OBSERVERS:
        assert as_bytes(observe(name, [array])) == as_bytes(observe(name, [array.astype(np.float32)]))


def test_a_float64_beyond_float32_is_not_finite():
    assert observe("extremes", [np.array([1e300, 1.0])])["nonfinite"] == 1


def test_statistics_merge_observer_by_observer():
    parts = [{name: observe(name, [np.full(3, float(i), np.float32)]) for name in OBSERVERS} for i in range(3)]
    merged = merge_statistics(parts)
    assert merged["extremes"]["maximum"] == 2.0
    assert merged["histogram"]["counts"].sum() == 9


@pytest.mark.parametrize(
    "parts",
    [[], [{"extremes": Extremes().state()}, {}], [{"moments": {}}]],
    ids=["no parts", "different observers", "an unknown observer"],
)
def test_statistics_that_do_not_belong_together_are_refused(parts):
    with pytest.raises(CalibrationError, match="watched by the same observers"):
        merge_statistics(parts)


def test_the_table_is_open():
    class Count:
        """The least observer."""

        def __init__(self):
            self.count = 0

        def update(self, array):
            self.count += array.size

        def state(self):
            return {"count": np.asarray(self.count)}

        @classmethod
        def merge(cls, states):
            return {"count": np.asarray(sum(int(state["count"]) for state in states))}

    table = {**OBSERVERS, "count": Count}
    parts = [{"count": {"count": np.asarray(2)}}, {"count": {"count": np.asarray(3)}}]
    assert merge_statistics(parts, observers=table)["count"]["count"] == 5


def test_nothing_but_zeros_lands_beside_zero():
    state = observe("histogram", [np.zeros(10, np.float32)])
    assert state["counts"][BINS // 2] == 10
    assert math.isfinite(bin_width(state))


@pytest.mark.parametrize("shape", [(96, 112, 112), (64, 56, 56), (1, 40_000), (32, 32, 32), (7, 65_536)], ids=str)
def test_what_is_left_out_of_large_samples_hardly_shows(shape):
    generator = np.random.default_rng(0)
    field = generator.standard_normal((6, *shape)).astype(np.float32)
    # Channels, rows and columns of their own size: what looked at some of them alone would be far off.
    for axis in range(1, field.ndim):
        field *= generator.uniform(0.5, 2.0, [n if i == axis else 1 for i, n in enumerate(field.shape)]).astype(
            np.float32
        )
    state = observe("histogram", [field])
    most = np.minimum(field[0].size, MOST_VALUES)
    assert 0.4 * most < state["counts"].sum() / 6 <= most
    edges, cumulated = left_edges(state), np.cumsum(state["counts"]) / state["counts"].sum()
    for part in (0.001, 0.01, 0.5, 0.99, 0.999):
        found, exact = edges[np.searchsorted(cumulated, part)], np.quantile(field, part)
        assert abs(found - exact) < 0.04 * np.quantile(np.abs(field), 0.999)


@pytest.mark.parametrize(("samples", "most"), [(1, 32768), (128, 32768), (256, 16384), (1024, 4096), (10**6, 4096)])
def test_of_many_samples_fewer_values_of_each_are_counted_down_to_a_least(samples, most):
    assert most_values(samples) == most


@pytest.mark.parametrize("method", [Percentile(99.9), Entropy(), LeastSquares()], ids=lambda one: type(one).__name__)
def test_of_many_samples_few_values_of_each_give_as_good_a_range(method):
    generator = np.random.default_rng(1)
    places = np.ones(3000, np.float32)
    places[generator.integers(0, 3000, 10)] = 4  # were the same values of each counted, the range would miss these
    rows = np.abs(generator.standard_normal((600, 3000)).astype(np.float32)) * places
    few = [thinned(row[None], 600, start) for row, start in zip(rows, generator.integers(0, 1 << 32, 600), strict=True)]
    assert sum(part.size for part in few) < rows.size / 5

    scheme, whole = Scheme(dtype="uint8"), {name: observe(name, [rows]) for name in OBSERVERS}
    errors = [
        mean_squared_error(density_of(whole["histogram"]), grid_of(scheme, *range_of(method, seen, scheme=scheme)))
        for seen in (whole, {**whole, "histogram": observe("histogram", few)})
    ]
    assert errors[1] < 1.05 * errors[0]


@pytest.mark.parametrize("shape", [(1, 3000), (3, 1000), (4, 8)], ids=str)
def test_what_sums_up_an_array_does_not_hold_it(shape):
    array = np.ones(shape, np.float32)
    summary = summary_of(array, 600)
    for kept in (summary.lowest, summary.highest, summary.counted):
        assert not np.shares_memory(kept, array)


def test_every_row_and_column_is_counted_from():
    image = np.zeros((1, 3, 224, 224), np.float32)
    image[0, 1, :, 17] = 1.0
    image[0, 2, 100, :] = -1.0
    state = observe("histogram", [image])
    counts = {float(edge): int(count) for edge, count in zip(left_edges(state), state["counts"], strict=True) if count}
    every = 150_528 / sum(counts.values())
    assert counts[1.0] * every == pytest.approx(224, rel=0.35)
    assert counts[-1.0] * every == pytest.approx(224, rel=0.35)
