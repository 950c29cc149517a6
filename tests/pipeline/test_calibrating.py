"""Calibration by several processes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeport import api
from edgeport.contracts import Limits
from edgeport.errors import UsageError
from edgeport.pipeline.calibrating import calibrate_in_children


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
        workers=workers,
        on_progress=told.append,
        **options,
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
