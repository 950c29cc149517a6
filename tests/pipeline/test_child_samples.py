"""Samples as a child reads them for a model."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport.contracts import OnnxModel, TensorSpec, to_jsonable
from edgeport.npz import save_npz
from edgeport.pipeline.datasets import calibration_samples
from edgeport.pipeline.datasets.sources import location_named


@pytest.mark.parametrize(
    ("batch", "values", "wanted", "read"),
    [
        ("n", 32, None, [32, 8]),
        ("n", 32, 24, [24, 16]),
        (1, 32, None, [4] * 10),
        (1, 32, 24, [4] * 10),
        (1, 32, 3, [3] * 13 + [1]),
        (1, 4, None, [1] * 40),
        (1, 1024, None, [32, 8]),
    ],
)
def test_a_model_that_takes_a_fixed_batch_has_no_more_read_at_once(tmp_path, monkeypatch, batch, values, wanted, read):
    monkeypatch.setattr(calibration_samples, "_READ_VALUES", values)
    spec = TensorSpec(name="x", dtype="float32", shape=(batch, 2, 4))
    model = OnnxModel(path=tmp_path / "model.onnx", inputs=(spec,), outputs=(spec,), opset=20, digest="d")
    x = np.arange(40 * 8, dtype=np.float32).reshape(40, 2, 4)
    save_npz(tmp_path / "x.npz", {"x": x})
    payload = {"samples": to_jsonable(location_named(tmp_path / "x.npz")), "target": ""}
    payload |= {"batch_size": wanted} if wanted is not None else {}
    found = [sample.feeds["x"] for sample in calibration_samples.calibration_samples(payload, model)]
    assert [len(one) for one in found] == read
    np.testing.assert_array_equal(np.concatenate(found), x)
