"""Samples from a declared range."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.calibration.data.random_samples import draw
from edgeport.contracts import TensorSpec
from edgeport.errors import SamplesError


def image(**fields):
    return TensorSpec(
        **{"name": "image", "dtype": "float32", "shape": ("batch", 3, 8, 8), "value_range": (-1, 3)} | fields
    )


def test_samples_fill_the_declared_range_and_differ_in_their_means():
    drawn = draw([image()], 200, 0)["image"]
    assert (drawn.shape, drawn.dtype) == ((200, 3, 8, 8), np.float32)
    assert -1 <= drawn.min() < -0.8 < 2.8 < drawn.max() <= 3
    assert drawn.mean(axis=(1, 2, 3)).std() > 0.3  # noise between equal bounds would have 0.08


def test_integers_reach_both_ends():
    drawn = draw([image(dtype="int64", shape=("batch", 4), value_range=(0, 5))], 100, 0)["image"]
    assert (drawn.dtype, set(np.unique(drawn))) == (np.int64, {0, 1, 2, 3, 4, 5})


def test_equal_seeds_give_equal_samples():
    first, again, other = (draw([image()], 4, seed)["image"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("fields", "found"),
    [({"value_range": None}, "no declared range"), ({"shape": ("batch", 3, "height", 8)}, "where more than the batch")],
    ids=["no range", "free axis"],
)
def test_what_is_not_declared_is_refused(fields, found):
    with pytest.raises(SamplesError, match=found):
        draw([image(**fields)], 4, 0)
