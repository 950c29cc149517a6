"""Weights in blocks against arithmetic that is written out, value by value."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.backends.qdq.blocks import pack_nibbles, quantize_blocks, quantize_rows
from edgeport.contracts import WeightQuantization
from edgeport.errors import ContractError


def test_a_block_that_can_be_read():
    """Two blocks of four: the first has the scale 7/7 = 1, the second (one value only) 3/7."""
    weight = np.array([[7.0, -3.4, 0.5, 1.5, 3.0]], dtype=np.float32)
    found = quantize_blocks(weight, WeightQuantization(dtype="int4", axis=1, block_size=4))
    assert found.integers.tolist() == [[7, -3, 0, 2, 7]]  # half to even
    np.testing.assert_allclose(found.scale, [[1.0, 3 / 7]], rtol=1e-6)
    assert found.zero_point.tolist() == [[0, 0]]


def test_a_block_with_a_zero_point_that_can_be_read():
    """-1..2 in steps of 3/15: zero is 5."""
    weight = np.array([[-1.0, 2.0, 0.0, 0.41]], dtype=np.float32)
    found = quantize_blocks(weight, WeightQuantization(dtype="uint4", axis=1, block_size=4, symmetric=False))
    assert (found.integers.tolist(), found.zero_point.tolist()) == ([[0, 15, 5, 7]], [[5]])
    np.testing.assert_allclose(found.scale, [[0.2]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("length", "size"), [(64, 32), (70, 32), (5, 128), (1, 32)])
def test_no_value_is_further_than_half_a_step(dtype, axis, length, size):
    weight = np.random.default_rng(length).standard_normal((length, 3) if axis == 0 else (3, length)).astype("float32")
    spec = WeightQuantization(dtype=dtype, axis=axis, block_size=size, symmetric=not dtype.startswith("u"))
    found = quantize_blocks(weight, spec)
    rows = weight if axis == 1 else weight.T
    scale, zero = (np.repeat(part, size, axis=1)[:, :length] for part in (found.scale, found.zero_point.astype(int)))
    assert found.scale.shape == (3, -(-length // size))
    error = np.abs((found.integers.astype(int) - zero) * scale - rows)
    # With a zero point that is rounded too, the end of the range may lie one more half step away.
    assert (error <= (0.5 if spec.symmetric else 1.0) * scale * 1.001).all()
    limits = {"int4": (-7, 7), "uint4": (0, 15), "int8": (-127, 127)}[dtype]
    assert limits[0] <= found.integers.min() <= found.integers.max() <= limits[1]


def test_an_empty_range_is_exact():
    found = quantize_blocks(np.zeros((2, 8), np.float32), WeightQuantization(dtype="uint4", axis=1, block_size=4))
    assert (found.scale == 1).all()
    assert not (found.integers.astype(int) - np.repeat(found.zero_point, 4, axis=1)).any()


def test_rows_repeat_the_scale_of_their_channel():
    weight = np.array([[1.0, -2.0, 4.0], [0.5, 0.25, 1.0]], dtype=np.float32)
    found = quantize_rows(weight.T, WeightQuantization(dtype="int8", axis=1), 2)
    np.testing.assert_allclose(found.scale, [[4 / 127] * 2, [1 / 127] * 2], rtol=1e-6)
    assert found.integers.tolist() == [[32, -64, 127], [64, 32, 127]]


@pytest.mark.parametrize(
    ("integers", "packed"),
    [([1, 2, 3, 4], [0x21, 0x43]), ([1, 2, 3], [0x21, 0x03]), ([-1, -8], [0x8F]), ([15], [0x0F])],
    ids=["even", "odd", "signed", "one"],
)
def test_the_first_number_is_in_the_lower_half(integers, packed):
    assert pack_nibbles(np.array(integers)).tolist() == packed
    assert pack_nibbles(np.array([[integers]])).tolist() == [[packed]]


def test_blocks_need_an_axis():
    with pytest.raises(ContractError, match="no axis that they lie along"):
        WeightQuantization(dtype="int4", block_size=32)
    with pytest.raises(ContractError, match="fewer than one value"):
        WeightQuantization(dtype="int4", axis=0, block_size=0)
