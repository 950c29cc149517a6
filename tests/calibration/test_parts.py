"""Several processes over parts of the samples give what one gives, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples, rebatch, shard_of
from edgeport.calibration.merge import merge_calibrations
from edgeport.calibration.observers import histogram
from edgeport.errors import CalibrationError, SamplesError

NETWORK = """(float[{batch},3,8,8] x) => (float[{batch},4] z) {{
    c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) p = GlobalAveragePool(r) z = Flatten(p)
}}"""


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", ["batch", "4"], ids=["free batch", "batch of 4"])
def test_parts_merge_to_the_whole(model_text, random, open_model, parts, batch):
    model = model_text(NETWORK.format(batch=batch), {"w": random(4, 3, 3, 3)})
    samples = ArraySamples({"x": random(19, 3, 8, 8)}, batch_size=4)
    dealt = samples if batch == "batch" else rebatch(samples, 4)
    found = [collect(model, shard_of(dealt, index, parts), open_model) for index in range(parts)]
    merged = merge_calibrations(found)
    assert merged.sample_count == 19
    assert merged.digest == collect(model, samples, open_model).digest


def test_parts_are_disjoint_and_together_the_set(random):
    samples = ArraySamples({"x": random(19, 2)}, batch_size=4)
    parts = [shard_of(samples, index, 3) for index in range(3)]
    assert [len(part) for part in parts] == [8, 7, 4]
    rows = np.concatenate([sample.feeds["x"] for part in parts for sample in part])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, random(19, 2).tolist()))
    assert {part.fingerprint for part in parts} == {samples.fingerprint}
    assert {part.digests() for part in parts} == {samples.digests()}


def test_how_much_is_counted_depends_on_the_whole_set(model_text, random, open_model, monkeypatch):
    monkeypatch.setattr(histogram, "FEWEST_VALUES", 4)
    monkeypatch.setattr(histogram, "ENOUGH_VALUES", 19 * 7)
    model = model_text("(float[1,21] x) => (float[1,21] y) { y = Neg(x) }")
    samples = ArraySamples({"x": random(19, 21)}, batch_size=4)
    found = [collect(model, shard_of(rebatch(samples, 1), index, 3), open_model) for index in range(3)]
    merged = merge_calibrations(found)
    assert 19 * 5 <= merged.statistics["y"]["histogram"]["counts"].sum() <= 19 * 6  # every fourth of 21
    assert merged.digest == collect(model, samples, open_model).digest


@pytest.mark.parametrize(("index", "parts"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(random, index, parts):
    with pytest.raises(SamplesError, match="a part that does not exist"):
        shard_of(ArraySamples({"x": random(4, 2)}), index, parts)


def test_a_tensor_may_be_finite_in_one_part_alone(model_text, open_model):
    model = model_text("(float[batch,3] x) => (float[batch,3] y) { h = Log(x) y = Relu(h) }")
    samples = ArraySamples({"x": np.repeat(np.float32([[-1.0], [2.0]]), 3, axis=1)}, batch_size=1)
    never, once = (collect(model, shard_of(samples, index, 2), open_model) for index in range(2))
    assert merge_calibrations([never, once]).statistics["h"]["extremes"]["nonfinite"] == 3
    with pytest.raises(CalibrationError, match="calibrate tensor 'h'; found NaN or Inf in all of its 6 values"):
        merge_calibrations([never, never])


@pytest.mark.parametrize("field", ["model_digest", "samples_fingerprint"])
def test_parts_that_do_not_belong_together_are_refused(calibration_of, model_text, field):
    one = calibration_of(model_text("(float[batch,3] x) => (float[batch,3] y) { y = Relu(x) }"))
    with pytest.raises(CalibrationError, match="different models, samples or tensors"):
        merge_calibrations([one, replace(one, **{field: "other"})])
    with pytest.raises(CalibrationError, match="found none"):
        merge_calibrations([])
