"""Steps of [[compress]] in a run: what is kept, what is measured, what is told; and one run from end to end."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeport import api
from edgeport.contracts import (
    Capabilities,
    CompressStep,
    FineTuning,
    OnnxModel,
    Outcome,
    PruneStep,
    QatStep,
    TensorSpec,
)
from edgeport.contracts.recipe import Recipe
from edgeport.exporter.train.samples import INDEX
from edgeport.pipeline import compressing_prune
from edgeport.pipeline.compressing_guess import guess_s, stage_names
from edgeport.pipeline.compressing_step import StepWork, TrainingSamples
from edgeport.pipeline.context import RunContext, run_context
from edgeport.pipeline.preparing import PreparedModel
from edgeport.pipeline.samples import PreparedSamples
from edgeport.pipeline.sharing import Shared
from edgeport.pipeline.validating import Reference
from edgeport.recipe import load_recipe

NET = """
    import torch
    from torch import nn


    def create():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
        )
"""
RECIPE = """
    model.source = "compress_net:create"
    data.training = "training.npz"
    data.calibration = "calibration.npz"
    data.evaluation = "evaluation.npz"
    data.target = "label"
    data.metric = "agreement"
    target = [{ backend = "onnxruntime", precisions = ["fp32", "int8"], threads = 1 }]
    search = { rounds = 6, screening_rounds = 6, duration_s = 0.02, warmup_s = 0.01 }
    budget.accuracy_drop = 0.9
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "compress_net.py").write_text(textwrap.dedent(NET), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(textwrap.dedent(RECIPE), encoding="utf-8")
    random = np.random.default_rng(0)
    for name, count in (("training", 96), ("calibration", 16), ("evaluation", 200)):
        images = random.normal(size=(count, 3, 10, 10)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", input=images, label=random.integers(0, 4, count))
    yield tmp_path
    sys.modules.pop("compress_net", None)  # the next test has a file of that name elsewhere


@contextmanager
def work_for(folder: Path, step: CompressStep) -> Iterator[StepWork]:
    """A step's work whose training samples lie in a folder, with nothing exported."""
    recipe = load_recipe(folder / "recipe.toml")
    place = folder / "kept"
    place.mkdir(exist_ok=True)
    given = np.load(folder / "training.npz")
    np.save(place / "0.npy", given["input"])
    np.save(place / "labels.npy", given["label"])
    (place / INDEX).write_text('["input"]', encoding="utf-8")
    with run_context(recipe, store=folder / "store") as context:
        shared = _shared(folder)
        samples = TrainingSamples(context=context, shared=shared, folder=place)
        samples._written = True
        yield StepWork(
            context=context,
            original=recipe.source,
            shared=shared,
            target=recipe.targets[0],
            stage="prune",
            samples=samples,
        )


def _shared(folder: Path) -> Shared:
    spec = TensorSpec(name="input", dtype="float32", shape=("batch", 3, 10, 10))
    model = OnnxModel(path=folder / "model.onnx", inputs=(spec,), outputs=(spec,), opset=20, digest="model")
    samples = PreparedSamples(
        feeds=folder / "feeds.npz",
        unfolded=folder / "feeds.npz",
        target=None,
        example=folder / "example.npz",
        single=folder / "single.npz",
        count=200,
        fingerprint="evaluation",
        calibration_fingerprint="calibration",
        calibration_count=16,
        training_fingerprint="training",
        training_count=96,
        warnings=(),
    )
    reference = Reference(outputs=folder / "reference.npz", name="PyTorch float32")
    here = {"onnxruntime": Capabilities(backend="onnxruntime", installed=True, can_run=True)}
    return Shared(
        capabilities=here,
        by_device={"local": here},
        samples=samples,
        prepared=PreparedModel(model=model, reference=reference, verification=None, notes=()),
        transformed=model,
        calibration=None,
        calibration_digest="",
        methods={},
        notes=(),
        thin={},
        counts=(2,),
    )


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Children's work is done in this process, with its names kept."""
    done: list[str] = []

    def run(
        context: RunContext, function: str, payload: Mapping[str, Any], **others: Any
    ) -> tuple[dict[str, Any], dict[str, str]]:
        del context, others
        module, _, name = function.partition(":")
        done.append(name)
        return getattr(importlib.import_module(module), name)(json.loads(json.dumps(payload))), {}

    monkeypatch.setattr(compressing_prune, "run_recorded", run)
    return done


class Measured:
    """A bench whose latency is half constant, and half what the last layer's channels take."""

    asked: ClassVar[list[dict[str, int]]] = []

    def __init__(self, work: object, outlines: object) -> None:
        del work, outlines

    def whole_ns(self) -> float:
        self.asked.append({})
        return 2e6

    def speedup(self, counts: Mapping[str, int]) -> float:
        self.asked.append(dict(counts))
        return 1.0 / (0.5 + 0.5 * (32 - counts.get("3", 0)) / 32)


def test_a_pruning_is_done_once_and_says_what_it_did(folder: Path, in_process: list[str]) -> None:
    step = PruneStep(amount=0.5, training=FineTuning(epochs=1, batch_size=16), device="cpu")
    with work_for(folder, step) as work:
        made = compressing_prune.prune_in_run(work, step)
        again = compressing_prune.prune_in_run(work, step)

    assert made == again
    assert in_process == ["prune_in_child"]
    assert made.source is not None
    assert made.source.weights is not None
    assert made.source.weights.is_relative_to(folder / "store")
    assert "multiplications to" in made.said[0]
    assert "steps" in made.said[1]
    assert not list((folder / "store").glob("training/*"))


def test_a_pruning_for_a_latency_measures_each_network_once(
    folder: Path, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressing_prune, "PruneBench", Measured)
    monkeypatch.setattr(Measured, "asked", [])
    step = PruneStep(speedup=1.3, device="cpu")
    with work_for(folder, step) as work:
        made = compressing_prune.prune_in_run(work, step)
        asked = len(Measured.asked)
        assert compressing_prune.prune_in_run(work, step) == made
        assert len(Measured.asked) == asked
        assert made.source is not None
        assert "asked was 1.3x" in made.said[1]

        # Another target measures anew; the scores, which know no target, are not looked for again.
        other = compressing_prune.prune_in_run(
            StepWork(**{**vars(work), "stage": "prune 2", "target": type(work.target)(backend="openvino")}), step
        )
    assert other.source == made.source
    assert len(Measured.asked) > asked
    assert in_process == ["look_in_child", "take_in_child"]


def test_where_nothing_is_faster_nothing_goes(
    folder: Path, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressing_prune, "PruneBench", Measured)
    monkeypatch.setattr(Measured, "speedup", lambda _self, _counts: 0.9)
    step = PruneStep(speedup=2.0)
    with work_for(folder, step) as work:
        made = compressing_prune.prune_in_run(work, step)

    assert made.source is None
    assert made.said == ("nothing was removed: no network that was measured is faster (2 ms)",)
    assert in_process == ["look_in_child"]


def test_stages_have_names_and_guesses(folder: Path) -> None:
    steps = (PruneStep(amount=0.5), PruneStep(speedup=2.0), QatStep())
    assert stage_names(steps) == ["prune", "prune 2", "qat"]
    recipe = _with(load_recipe(folder / "recipe.toml"), steps)
    short, long = guess_s(recipe, 1000), guess_s(recipe, 50_000)
    assert list(short) == ["prune", "prune_2", "qat"]
    assert short["prune"] < short["prune_2"]
    assert long["qat"] > short["qat"]


def _with(recipe: Recipe, steps: tuple[CompressStep, ...]) -> Recipe:
    from dataclasses import replace

    return replace(recipe, compress=steps)


STEPS = """
[[compress]]
method = "prune"
amount = 0.5
epochs = 2
batch_size = 16
teacher = 0.5

[[compress]]
method = "prune"
structure = "blocks"
amount = 3

[[compress]]
method = "qat"
epochs = 1
batch_size = 16
"""


@pytest.mark.slow
def test_a_run_with_steps_from_end_to_end(folder: Path) -> None:
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    whole, failing = folder / "whole.toml", folder / "failing.toml"
    failing.write_text(text + STEPS, encoding="utf-8")
    whole.write_text(text + STEPS.replace('[[compress]]\nmethod = "prune"\nstructure = "blocks"\namount = 3\n', ""))

    result = api.run(whole, output=folder / "out", store=folder / "store")

    rows = result.compression
    assert [row.variant for row in rows] == ["original", "pruned", "pruned + trained"]
    assert [row.problem for row in rows] == ["", "", ""]
    assert rows[1].verification is not None
    assert rows[1].verification.outcome is Outcome.PASS
    shown = [result.candidate(row.candidate) for row in rows]
    sizes = [one.artifact.size_bytes for one in shown if one.artifact is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert all(one.latency is not None and one.accuracy is not None for one in shown)
    # All are judged against the original's outputs, and it alone is a float to beat.
    assert {one.accuracy.reference for one in result.candidates if one.accuracy} == {"PyTorch float32"}
    assert [one.name for one in result.candidates if one.is_float] == ["onnxruntime fp32"]
    assert result.best_float == "onnxruntime fp32"
    assert shown[0].accuracy is not None
    assert shown[0].accuracy.value.estimate == 1.0
    assert "Step by step" in (folder / "out" / "report.html").read_text(encoding="utf-8")
    told = json.loads((folder / "out" / "result.json").read_bytes())["compression"]
    assert [row["step"] for row in told] == [row.step for row in rows]
    if result.candidate(result.chosen).variant != "original":
        manifest = json.loads((folder / "out" / "bundle" / "manifest.json").read_bytes())
        assert manifest["provenance"]["compressed_by"][0].startswith("prune units by l2")
        assert manifest["provenance"]["training_samples"] == 96

    rehearsed = api.dry_run(whole, store=folder / "store")
    assert [step.name for step in rehearsed.steps if step.name in ("prune", "qat") and step.stored] == ["prune", "qat"]

    result = api.run(failing, output=folder / "out", store=folder / "store")

    problems = [row.problem for row in result.compression]
    assert problems[:2] == ["", ""]
    assert problems[2]
    assert problems[3] == "not done, since prune 2 before it failed"
    assert {one.variant for one in result.candidates} == {"original", "pruned"}
    assert "onnxruntime int8, pruned" in {one.name for one in result.candidates}
