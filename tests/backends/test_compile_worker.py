"""Compiling in a child process, as the pipeline does it."""

from __future__ import annotations

import pytest

from edgeport.calibration.plan import float_plan
from edgeport.contracts import Artifact, ExecutionConfig, load_json, to_jsonable
from edgeport.contracts.serialise import canonical
from edgeport.errors import PlanError
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx


def payload(model, plan, folder):
    return {
        "backend": "onnxruntime",
        "model": to_jsonable(model),
        "plan": to_jsonable(plan),
        "execution": to_jsonable(ExecutionConfig(threads=1)),
        "folder": str(folder),
    }


@pytest.fixture
def model(small_onnx, save_onnx):
    return open_onnx(save_onnx(small_onnx))


def test_an_artifact_comes_back(model, tmp_path):
    values = run_isolated(
        "edgeport.testing.compile_worker:compile_artifact", payload(model, float_plan(model), tmp_path / "artifact")
    )
    artifact = load_json(Artifact, canonical(values))
    assert (tmp_path / "artifact" / artifact.entry).is_file()
    assert artifact.settings == {"optimization": "all", "skip": ["SkipLayerNormFusion"], "threads": 1}


def test_an_error_comes_back_as_it_was(model, tmp_path):
    import dataclasses

    plan = dataclasses.replace(float_plan(model), model_digest="0" * 64)
    with pytest.raises(PlanError, match="calibrate and plan again"):
        run_isolated("edgeport.testing.compile_worker:compile_artifact", payload(model, plan, tmp_path / "artifact"))
    assert not (tmp_path / "artifact").exists()
