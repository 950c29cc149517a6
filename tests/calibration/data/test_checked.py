"""A set that is checked on a walk that is made anyway."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples, CheckedSamples, check_samples, rebatch
from edgeport.contracts import TensorSpec
from edgeport.errors import SamplesError

SPECS = (TensorSpec(name="x", dtype="float32", shape=("n", 4)),)


class Counted(ArraySamples):
    """How often it was walked to the end."""

    walks = 0

    def __iter__(self):
        yield from super().__iter__()
        self.walks += 1


def test_one_walk_tells_all_that_a_check_tells(random):
    x = np.repeat(random(5, 4), 2, axis=0)
    samples, other = Counted({"x": x}, batch_size=3), ArraySamples({"x": x})
    checked = CheckedSamples(samples, SPECS)
    next(iter(checked))  # a look at the first is no walk
    assert list(checked.lints) == []
    assert [len(batch) for batch in rebatch(checked, 4)] == [4, 4, 2]
    assert list(checked.lints) == check_samples(other, SPECS) != []
    assert (checked.fingerprint, checked.digests(), len(checked)) == (other.fingerprint, other.digests(), 10)
    assert samples.walks == 1


def test_a_sample_that_is_wrong_reaches_no_model(model_text, random, open_model):
    x = random(10, 4)
    x[7, 2] = np.nan
    model = model_text("(float[1,4] x) => (float[1,4] y) { y = Neg(x) }")
    fed = []

    @contextmanager
    def opened(path):
        with open_model(path) as run:

            def told(feeds):
                fed.append(feeds["x"].copy())
                return run(feeds)

            yield told

    with pytest.raises(SamplesError, match=r"NaN in sample 7 \(1 of 12 values of its batch\)"):
        collect(model, CheckedSamples(ArraySamples({"x": x}, batch_size=3), SPECS), opened, at_once=2)
    assert len(fed) > 1  # of which one was to learn the shapes
    assert np.isfinite(fed).all()


def test_it_shows_in_no_calibration(model_text, random, open_model):
    model = model_text("(float[1,4] x) => (float[1,4] y) { y = Neg(x) }")
    samples = Counted({"x": random(10, 4)}, batch_size=3)
    found = collect(model, CheckedSamples(samples, SPECS), open_model)
    assert samples.walks == 1
    assert found.digest == collect(model, ArraySamples({"x": random(10, 4)}), open_model).digest
