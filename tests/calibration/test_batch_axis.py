"""Which axis counts samples, and that averages are over samples whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.calibration.batch_axis import batch_axis, by_sample
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples, rebatch
from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.observers import OBSERVERS
from edgeport.calibration.observers.averages import mean_extremes
from edgeport.contracts import Sample


@pytest.mark.parametrize(
    ("once", "twice", "axis"),
    [
        pytest.param((1, 3, 8), (2, 3, 8), 0, id="first"),
        pytest.param((7, 1, 8), (7, 2, 8), 1, id="second, as in an LSTM"),
        pytest.param((12, 5), (24, 5), 0, id="samples times heads"),
        pytest.param((3, 8), (3, 8), None, id="none follows"),
        pytest.param((1, 1), (2, 2), None, id="two follow"),
        pytest.param((3,), (5,), None, id="not twice as long"),
        pytest.param((1,), (2, 1), None, id="another rank"),
        pytest.param((), (), None, id="scalar"),
    ],
)
def test_the_axis_that_follows_the_samples(once, twice, axis):
    assert batch_axis(once, twice) == axis


@pytest.mark.parametrize(
    ("shape", "axis", "samples", "expected"),
    [
        ((4, 3), 0, 4, (4, 3)),
        ((3, 4), 1, 4, (4, 3)),
        ((8, 3), 0, 4, (4, 6)),
        ((3,), None, 4, (1, 3)),
        ((7,), 0, 4, (1, 7)),
    ],
)
def test_arrays_are_sorted_by_samples(shape, axis, samples, expected):
    assert by_sample(np.zeros(shape), axis, samples).shape == expected


MODELS = {
    "first axis": "{ y = Relu(x) }",
    "second axis": "{ t = Transpose<perm=[1,0]>(x) y = Transpose<perm=[1,0]>(t) }",
    "samples times parts": "{ s = Constant<value_ints=[-1,3]>() t = Reshape(x, s) "
    "u = Constant<value_ints=[-1,6]>() y = Reshape(t, u) }",
    "one for the whole call": "{ m = ReduceMean<keepdims=1>(x) y = Add(x, m) }",
}


@pytest.mark.parametrize("nodes", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_averages_do_not_depend_on_batches(model_text, random, open_model, nodes, batch_size):
    model = model_text(f"(float[batch,6] x) => (float[batch,6] y) {nodes}")
    x = random(16, 6)
    samples = ArraySamples({"x": x}, batch_size=16)
    found = collect(model, rebatch(samples, batch_size), open_model)
    assert mean_extremes(found.statistics["x"]["averages"]) == pytest.approx(
        (x.min(axis=1).mean(dtype=np.float64), x.max(axis=1).mean(dtype=np.float64)), rel=1e-12
    )
    assert {name: int(seen["averages"]["samples"]) for name, seen in found.statistics.items()} == dict.fromkeys(
        found.statistics, 16
    )
    if "m = " not in nodes:  # what is computed over the batch is another number in another batch
        assert found.digest == collect(model, samples, open_model, observers=OBSERVERS).digest


def test_a_call_is_one_sample_however_short_where_one_value_is_shared(model_text, random, open_model):
    model = model_text(f"(float[batch,length] x) => (float[batch,length] y) {MODELS['one for the whole call']}")
    batches = [Sample(feeds={"x": random(1, 64)}), Sample(feeds={"x": random(8, 2)})]
    found = collect(model, _Batches(batches), open_model)
    assert {int(seen["averages"]["samples"]) for seen in found.statistics.values()} == {9}


class _Batches(DigestedSet):
    def __init__(self, batches):
        self._batches = batches

    def __iter__(self):
        return iter(self._batches)

    def __len__(self):
        return sum(len(batch) for batch in self._batches)
