"""A run that is killed at any step goes on where it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from edgeport.contracts import Precision, dump_json
from edgeport.pipeline import run_recipe

PLANTED = Path(__file__).parent / "planted"
STAGES = ("probe", "samples", "export", "compile", "validate", "screen", "confirm", "bundle")


def run_until(stage, folder):
    path = os.pathsep.join([str(PLANTED), *filter(None, sys.path)])
    command = [sys.executable, str(PLANTED / "killed_run.py"), str(folder), stage]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False
    )


def entries(folder):
    """Records of finished steps in the store."""
    return {path.relative_to(folder).as_posix() for path in (folder / "store").glob("*/*.json")}


def test_a_run_killed_at_every_step_goes_on(make_recipe, tmp_path):
    recipe = make_recipe("base", "faster", rounds=7, precisions=(Precision.FP32,))
    (tmp_path / "recipe.json").write_bytes(dump_json(recipe))
    before = set()
    for stage in STAGES:
        ended = run_until(stage, tmp_path)
        assert ended.returncode == -signal.SIGKILL, f"{stage}: {ended.stderr}"
        assert not (tmp_path / "out" / "result.json").exists()
        after = entries(tmp_path)
        assert before <= after, f"what was finished is lost by a kill in {stage}"
        before = after
    result = run_recipe(recipe, output=tmp_path / "out", store=tmp_path / "store")
    assert result.chosen == "planted:faster int8-dynamic"
    assert result.reused > 7 + 6  # every round too was there already
    clean = run_recipe(recipe, output=tmp_path / "clean", store=tmp_path / "clean-store")
    assert [(one.name, one.outcome, one.refusal and one.refusal.code) for one in result.candidates] == [
        (one.name, one.outcome, one.refusal and one.refusal.code) for one in clean.candidates
    ]
    assert not list(tmp_path.glob(".out*")), "a half-written bundle was left"
