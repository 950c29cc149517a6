"""Samples that are held while range methods are measured."""

from __future__ import annotations

import numpy as np
import onnx

from edgeport.contracts import to_jsonable
from edgeport.npz import save_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.calibration_samples import few_calls
from edgeport.pipeline.datasets.sources import location_named


def test_a_few_samples_hold_no_more_than_themselves(tmp_path):
    text = '<ir_version: 10, opset_import: ["": 20]> g (float[n, 8] x) => (float[n, 8] z) { z = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    x = np.arange(160 * 8, dtype=np.float32).reshape(160, 8)
    save_npz(tmp_path / "many.npz", {"x": x})
    about = {"samples": to_jsonable(location_named(tmp_path / "many.npz")), "target": "", "batch_size": 32}
    calls = list(few_calls(open_onnx(tmp_path / "model.onnx"), about, 40))
    assert [call["x"][0, 0] for call in calls] == x[::4, 0].tolist()
    assert all(call["x"].base is None for call in calls), "each would keep the batch that it was read in"
