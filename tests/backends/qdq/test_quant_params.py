from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.backends.qdq.bias import LARGEST_BIAS, bias_integers, bias_scale, scale_floor
from edgeport.backends.qdq.quant_params import activation_parameters, dequantize, quantize, weight_parameters
from edgeport.contracts import ActivationQuantization, WeightQuantization

FINITE = st.floats(-1e6, 1e6, width=32)
SCHEMES = st.tuples(st.sampled_from(["int8", "uint8"]), st.booleans())


def spec(low: float, high: float, dtype: str, symmetric: bool) -> ActivationQuantization:
    return ActivationQuantization(dtype=dtype, minimum=min(low, high), maximum=max(low, high), symmetric=symmetric)


@given(low=FINITE, high=FINITE, scheme=SCHEMES, at=st.floats(0, 1))
def test_in_range_the_error_is_half_a_step(low, high, scheme, at):
    range_ = spec(low, high, *scheme)
    parameters = activation_parameters(range_)
    x = np.float32(range_.minimum + at * (range_.maximum - range_.minimum))
    error = abs(float(dequantize(quantize(np.asarray(x), parameters), parameters)) - float(x))
    # Half a step, and what float32 itself can't hold.
    assert error <= float(parameters.scale) / 2 + 4 * float(np.spacing(np.float32(max(abs(low), abs(high)))))


@given(low=FINITE, high=FINITE, scheme=SCHEMES)
def test_zero_is_exact(low, high, scheme):
    parameters = activation_parameters(spec(low, high, *scheme))
    zero = quantize(np.zeros(3, dtype=np.float32), parameters)
    assert (zero == parameters.zero_point).all()
    assert (dequantize(zero, parameters) == 0).all()


@given(low=FINITE, high=FINITE, scheme=SCHEMES)
def test_scale_is_a_positive_float32_scalar(low, high, scheme):
    dtype, symmetric = scheme
    parameters = activation_parameters(spec(low, high, dtype, symmetric))
    assert parameters.scale.dtype == np.float32
    assert parameters.scale.shape == parameters.zero_point.shape == ()
    assert parameters.scale > 0
    assert parameters.zero_point.dtype == dtype
    if symmetric:
        assert parameters.zero_point == (0 if dtype == "int8" else 128)


def test_a_range_from_zero_has_the_lowest_zero_point():
    # The saturation of QuantizeLinear is then the Relu before it, which the runtime may drop.
    assert activation_parameters(spec(0, 6, "uint8", symmetric=False)).zero_point == 0
    assert activation_parameters(spec(0, 6, "int8", symmetric=False)).zero_point == -128


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1e-30, 1e-30), (-1e-40, 0.0)])
def test_an_empty_or_tiny_range_has_a_usable_scale(low, high):
    scale = activation_parameters(spec(low, high, "uint8", symmetric=False)).scale
    assert float(scale) > 0
    assert float(np.float32(scale) * np.float32(scale)) >= np.finfo(np.float32).tiny


@given(
    weight=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=FINITE),
    axis=st.one_of(st.none(), st.integers(-2, 1)),
    symmetric=st.booleans(),
    dtype=st.sampled_from(["int8", "uint8"]),
)
def test_weights_are_within_half_a_step_per_channel(weight, axis, symmetric, dtype):
    parameters = weight_parameters(weight, WeightQuantization(dtype=dtype, axis=axis, symmetric=symmetric))
    restored = dequantize(quantize(weight, parameters), parameters)
    assert restored.shape == weight.shape
    assert parameters.axis == (None if axis is None else axis % weight.ndim)
    step = parameters.scale if axis is None else np.expand_dims(parameters.scale, _others(weight, parameters.axis))
    slack = 4 * np.spacing(np.abs(weight).max(initial=0.0))
    assert (np.abs(restored - weight) <= step / 2 + slack).all()


def _others(weight: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(weight.ndim) if i != axis)


def test_a_reduced_range_keeps_two_products_in_16_bits():
    weight = np.array([[-3.0, 2.0, 1.0]], dtype=np.float32)
    parameters = weight_parameters(weight, WeightQuantization(axis=0, reduce_range=True))
    largest = int(np.abs(quantize(weight, parameters).astype(int)).max())
    assert largest == 64
    assert 2 * 255 * largest <= np.iinfo(np.int16).max


def test_rounds_half_to_even_and_saturates_as_onnx_says():
    from onnx.reference.ops.op_quantize_linear import QuantizeLinear_10

    x = np.array([-1000, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1000], dtype=np.float32)
    parameters = activation_parameters(spec(-128, 127, "int8", symmetric=False))
    assert parameters.scale == 1
    theirs = QuantizeLinear_10.eval(x, parameters.scale, parameters.zero_point)
    np.testing.assert_array_equal(quantize(x, parameters), theirs)


@given(
    bias=hnp.arrays(np.float32, 3, elements=st.floats(-1e4, 1e4, width=32)),
    reach=hnp.arrays(np.float32, 3, elements=st.sampled_from([0.0, 1e-20, 1e-6, 1.0])),
    input_scale=st.sampled_from([1e-6, 0.02, 3.0]),
)
def test_every_bias_fits_and_is_exact_to_half_a_step(bias, reach, input_scale):
    weight = np.stack([-reach, reach / 2], axis=1)
    floor = scale_floor(bias, input_scale)
    parameters = weight_parameters(weight, WeightQuantization(axis=0), floor=floor)
    scale = bias_scale(np.float32(input_scale), parameters.scale, 3)
    integers = bias_integers(bias, scale)
    assert np.abs(integers.astype(np.int64)).max() <= LARGEST_BIAS * 1.001
    assert (np.abs(integers * scale.astype(np.float64) - bias) <= scale.astype(np.float64) / 2 * 1.001).all()


def test_a_dead_channel_keeps_its_bias():
    bias = np.array([0.3, -0.7], dtype=np.float32)
    weight = np.zeros((2, 4), dtype=np.float32)
    parameters = weight_parameters(weight, WeightQuantization(axis=0), floor=scale_floor(bias, 0.05))
    scale = bias_scale(np.float32(0.05), parameters.scale, 2)
    restored = bias_integers(bias, scale) * scale.astype(np.float64)
    assert all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(restored, bias, strict=True))


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers_are_those_of_exact_arithmetic(dtype, symmetric, random_values):
    parameters = weight_parameters(random_values[:, :8], WeightQuantization(dtype=dtype, axis=0, symmetric=symmetric))
    scale, zero_point = parameters.scale[:, None], parameters.zero_point[:, None].astype(np.float64)
    limits = np.iinfo(dtype)
    expected = np.clip(np.rint(random_values / scale).astype(np.float64) + zero_point, limits.min, limits.max)
    integers = quantize(random_values, parameters)
    assert integers.dtype == dtype
    np.testing.assert_array_equal(integers, expected)


@pytest.fixture
def random_values():
    """float32 [4, 512]: the first eight of a row are small, many others far outside of their range."""
    random = np.random.default_rng(0)
    values = random.standard_normal((4, 512)) * np.logspace(-2, 30, 512)
    values[:, 8:16] = 0.5
    return values.astype(np.float32)
