"""The promise of the first page: the quickstart ends with an int8 artifact that is really int8 and really faster."""

import json
import subprocess
import sys

import numpy as np
import pytest

import edgeport
from edgeport.contracts import Outcome
from edgeport.hardware import has_vnni, is_x86

pytest.importorskip("torch", reason="the quickstart trains with PyTorch")
pytest.importorskip("sklearn", reason="the quickstart's digits come with scikit-learn")
pytest.importorskip("openvino", reason="the quickstart compares with OpenVINO")

pytestmark = pytest.mark.alone

TIME_LIMIT_S = 180.0


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The result, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("quickstart")
    stages = []
    result = edgeport.quickstart(folder / "digits", store=folder / "store", on_progress=stages.append)
    return result, stages


@pytest.mark.timeout(600)
def test_int8_wins_and_really_ran_as_int8(quickstart, disturbed):
    if not (is_x86() and has_vnni()):
        pytest.skip("this CPU has no int8 dot products (VNNI), so that int8 need not win")
    result, _ = quickstart
    winner = result.candidates[0]
    assert winner.name == result.chosen
    assert winner.precision == "int8"
    assert winner.outcome is Outcome.PASS
    assert winner.placement.share("int8") > 0.7, winner.placement.summary()
    assert winner.against_float.speedup.low > 1.0
    assert winner.against_float.pairs == len(result.confirmation[winner.name].traces)
    assert winner.against_float.pairs == 10 or disturbed(result.confirmation)
    assert winner.accuracy.drop.high <= result.budget.accuracy_drop


@pytest.mark.timeout(600)
def test_every_precision_of_every_runtime_has_its_row(quickstart):
    result, _ = quickstart
    names = {candidate.name for candidate in result.candidates}
    wanted = {f"{runtime} {precision}" for runtime in ("onnxruntime", "openvino") for precision in ("fp32", "bf16")}
    wanted |= {
        f"{runtime} {precision}" for runtime in ("onnxruntime", "openvino") for precision in ("int8", "int8-dynamic")
    }
    assert wanted <= names
    for candidate in result.candidates:
        assert candidate.name == result.chosen or candidate.refusal is not None
        if candidate.latency is not None:
            assert candidate.placement.nodes
            assert candidate.accuracy.drop.low <= candidate.accuracy.drop.high
    best = result.candidate(result.best_float)
    assert best.precision.is_float
    tensorrt = [candidate for candidate in result.candidates if candidate.backend == "tensorrt"]
    assert all(candidate.refusal.code in ("UNMEASURED", "DEPENDENCY_MISSING") for candidate in tensorrt)


@pytest.mark.timeout(600)
def test_it_ends_in_time_and_tells_the_time_left(quickstart):
    result, stages = quickstart
    told = [event.time_left_s for event in stages if event.time_left_s is not None]
    assert len(told) > 20
    assert min(told) >= 0
    assert result.elapsed_s < TIME_LIMIT_S


@pytest.mark.timeout(600)
def test_the_bundle_runs_by_itself(quickstart):
    result, _ = quickstart
    ended = subprocess.run(
        [sys.executable, "run.py"], cwd=result.bundle, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    manifest = json.loads((result.bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["candidate"] == result.chosen
    with np.load(result.bundle / "expected.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files)
