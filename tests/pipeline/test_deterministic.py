"""Equal input gives equal bytes, whatever was measured, and no bundle tells where it was made."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.bundle import load_bundle, load_measured
from edgeport.contracts import Limits, ModelSource, Precision, digest_file
from edgeport.contracts.recipe import Statement, Target
from edgeport.pipeline import run_recipe

SHORT = Limits(time_s=60.0, memory_bytes=4 << 30)
MEASURED = {"measured.json", "report.html"}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_with_stores_of_their_own_give_equal_bundles(make_recipe, tmp_path):
    recipe = make_recipe("base", rounds=6, precisions=(Precision.FP32,))
    search = replace(recipe.search, screening_rounds=2)
    recipe = replace(recipe, search=search, statement=Statement(licence="MIT", author="A. Author"))
    first, second = (
        run_recipe(recipe, output=tmp_path / name / "out", store=tmp_path / name / "store", limits=SHORT)
        for name in ("one", "two")
    )
    ours, theirs = files(first.bundle), files(second.bundle)
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} <= MEASURED
    assert load_bundle(first.bundle).identity == load_bundle(second.bundle).identity
    assert load_measured(first.bundle).latency != load_measured(second.bundle).latency
    assert not [name for name, data in ours.items() if str(tmp_path).encode() in data]

    stated = load_bundle(first.bundle).manifest.provenance
    assert (stated.licence, stated.author, stated.source) == ("MIT", "A. Author", "model.onnx")
    assert stated.source_file_digest == digest_file(Path(recipe.source.location))
    assert (stated.evaluation_samples, stated.calibration_samples, stated.seed) == (400, 0, 0)
    assert len(stated.evaluation_fingerprint) == 64
    assert "onnx" in stated.tools


NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(8, 32), torch.nn.Linear(32, 4)

    def forward(self, images):
        return self.last(torch.relu(self.first(images)))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_exported_and_quantized_artifacts_are_equal_too(make_recipe, tmp_path):
    (tmp_path / "one_net.py").write_text(NET)
    weights = f"import sys, torch; sys.path.insert(0, {str(tmp_path)!r}); import one_net; "
    weights += f"torch.save(one_net.Net().state_dict(), {str(tmp_path / 'net.pt')!r})"
    subprocess.run([sys.executable, "-c", weights], check=True, timeout=120)
    random = np.random.default_rng(1)
    np.savez(tmp_path / "calibration.npz", images=random.standard_normal((64, 8)).astype(np.float32))
    recipe = make_recipe("base", rounds=6)
    recipe = replace(
        recipe,
        source=ModelSource(location="one_net:Net", weights=tmp_path / "net.pt", search_path=tmp_path),
        data=replace(
            recipe.data,
            calibration=replace(recipe.data.evaluation, path=tmp_path / "calibration.npz"),
            metric="agreement",
            target="",
        ),
        targets=tuple(
            Target(name=name, backend=name, precisions=(Precision.FP32, Precision.INT8))
            for name in ("onnxruntime", "openvino")
        ),
    )
    np.savez(tmp_path / "evaluation.npz", images=random.standard_normal((400, 8)).astype(np.float32))
    evaluation = replace(recipe.data.evaluation, path=tmp_path / "evaluation.npz")
    recipe = replace(recipe, data=replace(recipe.data, evaluation=evaluation))
    runs = [
        run_recipe(recipe, output=tmp_path / name / "out", store=tmp_path / name / "store", limits=SHORT)
        for name in ("one", "two")
    ]
    digests = [
        {
            f"{target.target} {candidate.name}": candidate.artifact.digest
            for target in run.targets
            for candidate in target.candidates
            if candidate.artifact is not None
        }
        for run in runs
    ]
    assert len(digests[0]) >= 4
    assert digests[0] == digests[1]
    assert runs[0].model.digest == runs[1].model.digest
    for one, other in zip(runs[0].targets, runs[1].targets, strict=True):
        assert not [name for name, data in files(one.bundle).items() if str(tmp_path).encode() in data]
        if one.chosen == other.chosen:  # which of two is faster is the machine's
            assert load_bundle(one.bundle).identity == load_bundle(other.bundle).identity
