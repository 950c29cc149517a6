"""A run that is killed at any step goes on where it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export is one of the steps")

from edgeport.contracts import Budget, ModelSource, Precision, dump_json  # noqa: E402 (after the skip)
from edgeport.contracts.recipe import DataSpec, Recipe, SamplesFile, Search, Target  # noqa: E402
from edgeport.pipeline import run_recipe  # noqa: E402

PLANTED = Path(__file__).parent / "planted"
STAGES = (
    *("probe", "samples", "export", "verify", "calibrate", "compile"),
    *("validate", "screen", "confirm", "bundle"),
)
CANDIDATES = 2


def write_recipe(folder):
    """A PyTorch model of one matrix product; int8 with ranges is the faster one on its planted backend."""
    from safetensors.torch import save_file

    random = np.random.default_rng(0)
    weight = random.standard_normal((8, 4)).astype(np.float32)
    save_file({"weight": torch.from_numpy(weight)}, folder / "weights.safetensors")
    for name in ("calibration", "evaluation"):
        images = random.standard_normal((400, 8)).astype(np.float32)
        np.savez(folder / f"{name}.npz", images=images, target=np.argmax(images @ weight, axis=1))
    recipe = Recipe(
        name="product",
        source=ModelSource(location="planted_net:Product", weights=folder / "weights.safetensors", search_path=PLANTED),
        data=DataSpec(
            calibration=SamplesFile(path=folder / "calibration.npz"),
            evaluation=SamplesFile(path=folder / "evaluation.npz"),
            target="target",
            metric="top1",
        ),
        targets=(
            Target(backend="planted:base", precisions=(Precision.FP32,)),
            Target(backend="planted:faster", precisions=(Precision.INT8,)),
        ),
        budget=Budget(accuracy_drop=0.02),
        search=Search(rounds=7, screening_rounds=6, duration_s=0.05, warmup_s=0.01),
    )
    (folder / "recipe.json").write_bytes(dump_json(recipe))
    return recipe


def run_until(stage, folder):
    path = os.pathsep.join([str(PLANTED), *filter(None, sys.path)])
    command = [sys.executable, str(PLANTED / "killed_run.py"), str(folder), stage]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False
    )


def entries(folder):
    """Records of finished steps in the store."""
    return {path.relative_to(folder).as_posix() for path in (folder / "store").glob("*/*.json")}


def test_a_run_killed_at_every_step_goes_on(tmp_path, monkeypatch, disturbed):
    monkeypatch.setattr("edgeport.store.code_version", lambda: "1")
    recipe = write_recipe(tmp_path)
    before = set()
    for stage in STAGES:
        ended = run_until(stage, tmp_path)
        assert ended.returncode == -signal.SIGKILL, f"{stage}: {ended.stderr}"
        assert not (tmp_path / "out" / "result.json").exists()
        after = entries(tmp_path)
        assert before <= after, f"what was finished is lost by a kill in {stage}"
        before = after
    steps = {name.split("/")[1] for name in before}
    assert steps == {"samples", "export", "verify", "judge", "calibrate", "compile", "evaluate", "round", "work"}
    result = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store")
    assert result.chosen == "planted:faster int8"
    assert entries(tmp_path) == before, "something was done again"
    rounds = sum(name.split("/")[1] == "round" for name in before)
    assert rounds == 6 + 7 or disturbed(result.measurements) or disturbed(result.confirmation)
    # samples to calibrate; compile, evaluate and judge; experiments; work
    assert result.reused == 5 + 3 * CANDIDATES + rounds + 1
    clean = run_recipe(recipe, output=tmp_path / "clean", store=tmp_path / "clean-store")
    assert clean.reused == 0
    assert result.model.digest == clean.model.digest
    assert [(one.name, one.outcome, one.refusal and one.refusal.code) for one in result.candidates] == [
        (one.name, one.outcome, one.refusal and one.refusal.code) for one in clean.candidates
    ]
    assert not list(tmp_path.glob(".out*")), "a half-written bundle was left"
