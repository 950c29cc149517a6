"""Calibration by several processes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport import api
from edgeport.contracts import Calibration, Limits, OnnxModel, TensorSpec, to_jsonable
from edgeport.errors import UsageError
from edgeport.pipeline.datasets.sources import location_named
from edgeport.pipeline.quantization.calibration import calibrate_in_children
from edgeport.pipeline.quantization.calibration_worker import collected


@pytest.fixture
def folder(problem, tmp_path):
    with np.load(problem / "evaluation.npz") as file:
        np.savez(tmp_path / "samples.npz", images=file["images"])
    return tmp_path


def calibrated(problem, folder, workers, **options):
    told = []
    output = folder / f"{workers}.safetensors"
    found = api.calibrate(
        problem / "model.onnx",
        folder / "samples.npz",
        output=output,
        on_progress=told.append,
        options=api.CalibrateOptions(workers=workers, **options),
    )
    return found, output.read_bytes(), told


def test_several_processes_give_the_bytes_of_one(problem, folder):
    one, alone, _ = calibrated(problem, folder, 1, batch_size=48)
    three, together, told = calibrated(problem, folder, 3, batch_size=48)
    assert (one.sample_count, three.sample_count) == (400, 400)
    assert together == alone
    assert (told[-1].done, told[-1].total) == (400, 400)
    assert [event.done for event in told] == sorted(event.done for event in told)


def test_more_processes_than_batches_are_not_too_many(problem, folder):
    assert calibrated(problem, folder, 2, batch_size=400)[1] == calibrated(problem, folder, 1, batch_size=400)[1]


def test_no_process_is_refused(problem, folder):
    with pytest.raises(UsageError, match="0 workers"):
        calibrated(problem, folder, 0)


def test_samples_of_a_model_with_a_state_are_not_shared():
    payload = {"model": {"state": {"next": "last"}}}
    with pytest.raises(UsageError, match="a model with a state, whose samples follow each other"):
        calibrate_in_children(payload, 2, limits=Limits(), on_progress=print, asked="calibrate")


@pytest.mark.parametrize(("asked", "expected"), [(None, (2, None, 4)), (3, (1, 3, 3))], ids=["one", "of several"])
def test_processors_are_shared_where_calls_are_side_by_side_alone(tmp_path, monkeypatch, asked, expected):
    given = []

    def collect(model, samples, open_model, **options):
        beside = options["open_side_by_side"]
        given.append((options["at_once"], open_model.keywords["threads"], beside.keywords["threads"]))
        return Calibration(model_digest="d", samples_fingerprint="f", sample_count=4, statistics={})

    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("edgeport.calibration.collect.collect", collect)
    np.savez(tmp_path / "x.npz", x=np.ones((4, 2), np.float32))
    inputs = (TensorSpec(name="x", dtype="float32", shape=(1, 2)),)
    model = OnnxModel(path=tmp_path / "m.onnx", inputs=inputs, outputs=(), opset=20, digest="d")
    about = {"samples": to_jsonable(location_named(tmp_path / "x.npz")), "target": "", "observers": []}
    collected(model, about | ({"threads": asked} if asked is not None else {}))
    assert given == [expected]
