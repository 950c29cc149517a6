"""Range methods against small references that know nothing of histograms, and what all of them must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.backends.qdq.quant_params import activation_parameters, dequantize, quantize
from edgeport.calibration.observers import merge_statistics
from edgeport.calibration.observers.histogram import BINS, bin_width
from edgeport.calibration.ranges import (
    Auto,
    Average,
    Entropy,
    LeastSquares,
    MinMax,
    Percentile,
    PowerOfTwo,
    Scheme,
    choose,
    describe,
    grid_of,
    range_of,
)
from edgeport.calibration.ranges.entropy import divergences, thresholds
from edgeport.calibration.ranges.error import clipping_error, density_of, mean_error, mean_squared_error
from edgeport.contracts import ActivationQuantization

SCHEMES = [
    Scheme(dtype="uint8"),
    Scheme(dtype="int8"),
    Scheme(dtype="int8", symmetric=True),
    Scheme(dtype="uint8", symmetric=True),
]
BY_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.dtype + ("-symmetric" if s.symmetric else ""))
FOUND = [MinMax(), Average(), Percentile(99.0), Entropy(), LeastSquares(), PowerOfTwo(), Auto()]
BY_METHOD = pytest.mark.parametrize("method", FOUND, ids=describe)


def drawn(kind, count=4000):
    generator = np.random.default_rng(3)
    values = {
        "normal": lambda: generator.standard_normal(count),
        "laplace": lambda: generator.laplace(size=count),
        "shifted": lambda: generator.standard_normal(count) + 2.0,
        "rectified": lambda: np.maximum(generator.standard_normal(count), 0.0),
        "outlier": lambda: np.append(generator.standard_normal(count), [60.0]),
        "both outliers": lambda: np.append(generator.standard_normal(count), [-40.0, 60.0]),
        "negative": lambda: -np.abs(generator.standard_normal(count)),
    }
    return values[kind]().astype(np.float32)


KINDS = ["normal", "laplace", "shifted", "rectified", "outlier", "both outliers", "negative"]


def rounded(values, low, high, scheme):
    """What the dialects' own arithmetic makes of the values."""
    spec = ActivationQuantization(dtype=scheme.dtype, minimum=low, maximum=high, symmetric=scheme.symmetric)
    parameters = activation_parameters(spec)
    return dequantize(quantize(values, parameters), parameters).astype(np.float64)


def squared_error(values, low, high, scheme):
    return float(((values - rounded(values, low, high, scheme)) ** 2).mean())


@BY_SCHEME
@given(low=st.floats(-1e4, 1e4), width=st.floats(0, 1e4))
def test_the_grid_is_the_one_that_dialects_write(scheme, low, width):
    spec = ActivationQuantization(dtype=scheme.dtype, minimum=low, maximum=low + width, symmetric=scheme.symmetric)
    parameters = activation_parameters(spec)
    first, last = scheme.limits
    ends = dequantize(np.array([first, last], scheme.dtype), parameters)
    grid = grid_of(scheme, low, low + width)
    if low != 0.0 or width != 0.0:
        assert float(grid.step) == pytest.approx(float(parameters.scale), rel=1e-6, abs=2.0**-59)
    if float(grid.step) > 2.0**-50:
        assert [float(grid.lowest), float(grid.highest)] == pytest.approx(ends.tolist(), rel=1e-5, abs=1e-6)


@BY_SCHEME
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [1.0, 0.3], ids=["all", "clipped"])
def test_the_expected_error_is_the_measured_one(statistics, scheme, kind, part):
    values = drawn(kind, 50_000)
    low, high = part * float(values.min()), part * float(values.max())
    density = density_of(statistics(values)["histogram"])
    grid = grid_of(scheme, low, high)
    error = values - rounded(values, low, high, scheme)
    assert float(mean_squared_error(density, grid)) == pytest.approx((error**2).mean(), rel=0.05)
    assert float(mean_error(density, grid)) == pytest.approx(error.mean(), rel=0.05, abs=float(grid.step) / 20)


@BY_SCHEME
@pytest.mark.parametrize("kind", KINDS)
def test_what_clipping_costs_is_known_before_the_rest(statistics, scheme, kind):
    values = drawn(kind, 50_000)
    parts = np.array([1.0, 0.6, 0.1])
    lows, highs = parts * float(values.min()), parts * float(values.max())
    density = density_of(statistics(values)["histogram"], merged=4)
    grid = grid_of(scheme, lows, highs)
    beyond = np.maximum(values[:, None] - grid.highest, 0.0) + np.maximum(grid.lowest - values[:, None], 0.0)
    found = clipping_error(density, grid)
    assert found.tolist() == pytest.approx(np.square(beyond).mean(axis=0).tolist(), rel=0.02, abs=1e-4)
    assert (found <= mean_squared_error(density, grid) * (1 + 1e-9)).all()


@BY_SCHEME
@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_finds_what_trying_all_ranges_finds(statistics, scheme, kind):
    values = drawn(kind)
    found = squared_error(values, *range_of(LeastSquares(), statistics(values), scheme=scheme), scheme)
    parts = np.geomspace(0.01, 1.0, 40)
    bottoms = parts * min(float(values.min()), 0.0) if values.min() < 0 else [0.0]
    tops = parts * max(float(values.max()), 0.0) if values.max() > 0 else [0.0]
    best = min(squared_error(values, low, high, scheme) for low in bottoms for high in tops)
    assert found <= 1.02 * best


def divergence_reference(values, low, high, width, scheme):
    """KL(P || Q) after Migacz, in loops, from the values themselves."""
    grid = grid_of(scheme, low, high)
    first, last = math.floor(min(low, 0.0) / width), math.ceil(max(high, 0.0) / width) - 1
    counts = {}
    for value in values:
        place = math.floor(float(value) / width)
        counts[place] = counts.get(place, 0) + 1
    counts[0] = counts.get(1, 0)
    kept, clipped = {}, {}
    for place, count in counts.items():
        inside = min(max(place, first), last)
        clipped[inside] = clipped.get(inside, 0) + count
        if inside == place and count:
            kept[place] = count
    if not kept:
        return math.inf
    levels = {}
    for place, count in clipped.items():
        if count:
            centre = (place + 0.5) * width
            level = round(min(max(centre, float(grid.lowest)), float(grid.highest)) / float(grid.step))
            levels.setdefault(level, []).append(place)
    lost = 0.0
    for places in levels.values():
        mass = sum(kept.get(place, 0) for place in places) / sum(kept.values())
        for place in places:
            share = clipped[place] / sum(clipped.values())
            if mass == 0.0:
                return math.inf
            lost += share * math.log(share / (mass / len(places)))
    return lost


@BY_SCHEME
@pytest.mark.parametrize("kind", ["normal", "rectified", "outlier", "negative", "few values"])
def test_divergences_of_many_ranges_are_those_of_each(statistics, scheme, kind):
    values = np.repeat(np.float32([-0.5, 0.3, 0.75, 1.0]), 5) if kind == "few values" else drawn(kind, 1500)
    histogram = statistics(values)["histogram"]
    width = bin_width(histogram)
    counts = histogram["counts"].astype(np.float64)
    counts[BINS // 2] = counts[BINS // 2 + 1]
    reach = max(-float(values.min()), float(values.max())) * np.array([1.0, 0.7, 0.4, 0.131, 0.01, 1e-4])
    lows, highs = np.maximum(float(values.min()), -reach), np.minimum(float(values.max()), reach)
    expected = [divergence_reference(values, low, high, width, scheme) for low, high in zip(lows, highs, strict=True)]
    assert divergences(counts, width, lows, highs, scheme).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-11)


@BY_SCHEME
@pytest.mark.parametrize("kind", ["normal", "rectified", "shifted", "outlier"])
def test_entropy_finds_the_least_divergence_of_all_thresholds(statistics, scheme, kind):
    values = drawn(kind, 1500)
    seen = statistics(values)
    width = bin_width(seen["histogram"])
    low, high = range_of(Entropy(), seen, scheme=scheme)
    found = divergence_reference(values, low, high, width, scheme)
    smallest, largest = float(values.min()), float(values.max())
    reach = math.ceil(max(-smallest, largest) / width)
    tried = [
        divergence_reference(values, max(smallest, -i * width), min(largest, i * width), width, scheme)
        for i in range(256 if smallest >= 0 and not scheme.symmetric else 128, reach, 24)
    ]
    assert found <= min(tried) * 1.05 + 1e-9


def test_entropy_clips_a_far_outlier(statistics):
    values = np.append(np.random.default_rng(0).laplace(size=200_000), 40.0)
    low, high = range_of(Entropy(), statistics(values))
    assert -20 < low < -5 < 5 < high < 20


def test_entropy_is_min_max_where_zeros_alone_were_counted(statistics):
    seen = statistics(np.zeros(64, np.float32))
    extremes = {**seen["extremes"], "minimum": np.float32(-1.0), "maximum": np.float32(3.0)}
    assert range_of(Entropy(), {**seen, "extremes": extremes}, scheme=Scheme()) == (-1.0, 3.0)


def test_entropy_has_more_thresholds_than_levels_would_allow_with_few_bins(statistics):
    assert BINS // 2 > 4 * 256
    values = drawn("normal")
    width = bin_width(statistics(values)["histogram"])
    assert len(thresholds(Scheme(), float(values.min()), float(values.max()), width)) > 100


def test_entropy_is_min_max_where_integers_outnumber_the_bins(statistics):
    seen = statistics(drawn("outlier"))
    assert range_of(Entropy(), seen, scheme=Scheme(dtype="uint16")) == range_of(MinMax(), seen)


@BY_SCHEME
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_best_powers_of_two(statistics, scheme, kind):
    values = drawn(kind)
    low, high = range_of(PowerOfTwo(), statistics(values), scheme=scheme)
    spec = ActivationQuantization(dtype=scheme.dtype, minimum=low, maximum=high, symmetric=scheme.symmetric)
    scale = float(activation_parameters(spec).scale)
    assert math.frexp(scale)[0] == 0.5
    first, last = scheme.limits
    found = squared_error(values, low, high, scheme)
    for factor in (0.25, 0.5, 2.0, 4.0):
        step = scale * factor
        zeros = [scheme.middle] if scheme.symmetric else range(first, last + 1, 5)
        others = [squared_error(values, (first - zero) * step, (last - zero) * step, scheme) for zero in zeros]
        assert found <= 1.02 * min(others)


def test_the_average_is_the_mean_of_the_samples_extremes(statistics):
    values = (np.random.default_rng(0).standard_normal((37, 5)) * np.geomspace(1e-6, 1e6, 37)[:, None]).astype(
        np.float32
    )
    expected = (math.fsum(values.min(axis=1).tolist()) / 37, math.fsum(values.max(axis=1).tolist()) / 37)
    assert range_of(Average(), statistics(values)) == pytest.approx(expected, rel=1e-15)


def measured_output_error(values, ends, readers):
    """Mean squared error at the output of a node that averages `readers` values with weights 1 / readers."""
    inputs = np.random.default_rng(1).choice(values, (max(4000, 800_000 // readers), readers))
    error = inputs - rounded(inputs.astype(np.float32), *ends, Scheme())
    return float((error.mean(axis=1) ** 2).mean())


@pytest.mark.parametrize("readers", [1, 64, 1024])
def test_auto_takes_what_does_least_harm_where_it_is_read(statistics, readers):
    values = np.abs(np.random.default_rng(0).standard_t(3, 100_000)).astype(np.float32)
    seen = statistics(values)
    _, found = choose(seen, Scheme(), bias_weight=float(readers))
    candidates = [MinMax(), Percentile(99.999), Percentile(99.99), Entropy(), LeastSquares()]
    best = min(measured_output_error(values, range_of(method, seen), readers) for method in candidates)
    assert measured_output_error(values, found, readers) <= 1.1 * best


def test_what_is_averaged_is_clipped_less(statistics):
    seen = statistics(np.append(np.linspace(0.0, 1.0, 100_000), np.full(100, 1.5)))
    scheme = Scheme(dtype="uint4")  # so few steps that clipping pays
    alone, averaged = (choose(seen, scheme, bias_weight=weight)[1] for weight in (1.0, 1e4))
    assert averaged[1] > 1.2 * alone[1]
    assert range_of(Auto(), seen, scheme=scheme) == alone


def test_auto_clips_what_one_sample_reaches_and_not_what_every_one_does(statistics):
    samples = np.random.default_rng(0).standard_normal((64, 4000)).astype(np.float32)
    in_one, in_all = samples.copy(), samples.copy()
    in_one[7, 5], in_all[:, 5] = 60.0, 60.0
    scheme = Scheme(dtype="uint4")  # so few steps that clipping pays
    (_, once), (_, always) = (range_of(Auto(), statistics(array), scheme=scheme) for array in (in_one, in_all))
    assert once < 8.0
    assert always == 60.0
    assert range_of(LeastSquares(), statistics(in_all), scheme=scheme)[1] < 30.0, (
        "its squared error alone would clip it"
    )


ARRAYS = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e4, 1e4, width=32))


@BY_METHOD
@BY_SCHEME
@settings(max_examples=20)
@given(array=ARRAYS)
def test_ranges_are_within_what_was_seen(statistics, method, scheme, array):
    seen = statistics(array)
    low, high = range_of(method, seen, scheme=scheme)
    smallest, largest = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    if isinstance(method, PowerOfTwo):
        span = max(-smallest, largest) if scheme.symmetric else largest - smallest
        assert high - low <= 4 * span + 2.0**-100
        return
    if scheme.symmetric:
        smallest, largest = -max(-smallest, largest), max(-smallest, largest)
    assert smallest <= low <= high <= largest


@BY_METHOD
@BY_SCHEME
@settings(max_examples=20)
@given(array=ARRAYS, exponent=st.integers(-20, 20))
def test_a_tensor_in_another_unit_has_its_range_in_that_unit(statistics, method, scheme, array, exponent):
    array[np.abs(array) < 1e-20] = 0.0
    factor = np.float32(2.0**exponent)
    plain, scaled = (range_of(method, statistics(values), scheme=scheme) for values in (array, array * factor))
    if np.abs(array).max() > 0.0:
        assert [end * float(factor) for end in plain] == pytest.approx(scaled, rel=1e-12)


@BY_METHOD
@settings(max_examples=30)
@given(array=ARRAYS, data=st.data())
def test_parts_give_the_range_of_the_whole(statistics, method, array, data):
    cut = data.draw(st.integers(0, array.size))
    parts = [statistics(part) for part in (array[:cut], array[cut:])]
    assert range_of(method, merge_statistics(parts)) == range_of(method, statistics(array))
