"""Samples in calls of one size: what has no axis that counts them is said at once, and by name."""

import numpy as np
import pytest

from edgeport.errors import SamplesError
from edgeport.pipeline.datasets.batching import require_samples, run_in_batches

FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}


def test_the_last_call_is_filled_up_and_cut():
    sizes = []

    def run(feeds):
        sizes.append(len(feeds["x"]))
        return {"y": feeds["x"] * 2}

    np.testing.assert_array_equal(run_in_batches(run, FEEDS, 2)["y"], FEEDS["x"] * 2)
    assert sizes == [2, 2]


def test_a_call_of_one_sample_may_give_one_number():
    assert run_in_batches(lambda feeds: {"y": feeds["x"].sum()}, FEEDS, 1)["y"].tolist() == [1, 5, 9]


@pytest.mark.parametrize("rows", [np.float32(1), np.zeros((4, 2))], ids=["a number for two", "four rows for two"])
def test_an_output_that_counts_no_samples_is_named(rows):
    with pytest.raises(SamplesError, match="keep output 'y' of every sample"):
        run_in_batches(lambda _: {"y": rows}, FEEDS, 2)


@pytest.mark.parametrize(
    ("feeds", "found"),
    [
        ({}, "a model without inputs"),
        ({"x": np.float32(1)}, "input 'x' without an axis that counts samples"),
        ({"x": np.zeros((0, 2))}, "no samples"),
    ],
)
def test_inputs_that_count_no_samples_are_named(feeds, found):
    with pytest.raises(SamplesError, match=found):
        require_samples(feeds)
