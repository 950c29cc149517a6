"""Steps of [[compress]] in a run: what is kept, what is measured, what is told; and one run from end to end."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeport import api
from edgeport.contracts import (
    Capabilities,
    CompressStep,
    DistillStep,
    FineTuning,
    ModelSource,
    OnnxModel,
    Outcome,
    PruneStep,
    QatStep,
    Scale,
    StudentStep,
    TensorSpec,
    WithoutDataStep,
)
from edgeport.contracts.recipe import Recipe
from edgeport.errors import DistillationError
from edgeport.exporter.loaders.model_source import load_module
from edgeport.exporter.structure.pruned_weights import is_pruned
from edgeport.exporter.train.samples import INDEX
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.compression import distill, prune, workbench
from edgeport.pipeline.compression.prune import Pruner
from edgeport.pipeline.compression.run import require_alike
from edgeport.pipeline.compression.step import StepContext, TrainingSamples
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.engine.context import RunContext, run_context
from edgeport.pipeline.engine.estimates import guess_s, stage_names
from edgeport.pipeline.evaluation.evaluate import Reference
from edgeport.pipeline.source_model.prepared_model import PreparedModel
from edgeport.recipe import load_recipe

NET = """
    import torch
    from torch import nn


    def create(width=32):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, width, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4),
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
def work_for(folder: Path, step: CompressStep) -> Iterator[StepContext]:
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
        samples = TrainingSamples(run=context, shared=shared, folder=place)
        yield StepContext(
            run=context,
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

    monkeypatch.setattr(workbench, "run_recorded", run)
    return done


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """What is measured, of a target whose latency is half constant, and half what the last layer's channels take."""
    asked: list[dict[str, int]] = []

    def whole_ns(_: Pruner) -> float:
        asked.append({})
        return 2e6

    def speedup(_: Pruner, counts: Mapping[str, int]) -> float:
        asked.append(dict(counts))
        return 1.0 / (0.5 + 0.5 * (32 - counts.get("3", 0)) / 32)

    monkeypatch.setattr(Pruner, "whole_ns", whole_ns)
    monkeypatch.setattr(Pruner, "speedup", speedup)
    return asked


def test_a_pruning_is_done_once_and_says_what_it_did(folder: Path, in_process: list[str]) -> None:
    step = PruneStep(amount=0.5, training=FineTuning(epochs=1, batch_size=16), device="cpu")
    with work_for(folder, step) as work:
        made = prune.prune_in_run(work, step)
        again = prune.prune_in_run(work, step)

    assert made == again
    assert in_process == ["prune_in_child"]
    assert made.source is not None
    assert made.source.weights is not None
    assert made.source.weights.is_relative_to(folder / "store")
    assert "multiplications to" in made.summary[0]
    assert "steps" in made.summary[1]
    assert not list((folder / "store").glob("training/*"))


def test_a_pruning_for_a_latency_measures_each_network_once(
    folder: Path, in_process: list[str], measured: list[dict[str, int]]
) -> None:
    step = PruneStep(speedup=1.3, device="cpu")
    with work_for(folder, step) as work:
        made = prune.prune_in_run(work, step)
        asked = len(measured)
        assert prune.prune_in_run(work, step) == made
        assert len(measured) == asked
        assert made.source is not None
        assert "asked was 1.3x" in made.summary[1]

        # Another target measures anew; the scores, which know no target, are not looked for again.
        other = prune.prune_in_run(
            StepContext(**{**vars(work), "stage": "prune 2", "target": type(work.target)(backend="openvino")}), step
        )
    assert other.source == made.source
    assert len(measured) > asked
    judged = ["judge_in_child"] * (len(in_process) - 2)
    assert judged
    assert in_process == ["look_in_child", *judged, "take_in_child"], "no child is asked twice for the same"


@pytest.mark.usefixtures("measured")
def test_where_nothing_is_faster_nothing_goes(
    folder: Path, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pruner, "speedup", lambda _self, _counts: 0.9)
    step = PruneStep(speedup=2.0)
    with work_for(folder, step) as work:
        made = prune.prune_in_run(work, step)

    assert made.source is None
    assert made.summary == ("nothing was removed: no network that was measured is faster (2 ms)",)
    assert in_process == ["look_in_child"]


LEARN = DistillStep(L=("0.1 cross-entropy", "0.9 soft-targets:2"), epochs=2, batch_size=16, rate=1e-2)


def given(folder: Path, **arguments: object) -> ModelSource:
    return ModelSource(location="compress_net:create", arguments=arguments, search_path=folder)


def test_what_pruning_left_learns_once_from_the_model_as_it_was(folder: Path, in_process: list[str]) -> None:
    step = StudentStep(learning=LEARN, device="cpu")
    with work_for(folder, step) as work:
        pruned = prune.prune_in_run(work, PruneStep(amount=0.6, device="cpu")).source
        assert pruned is not None
        recipe = dataclasses.replace(work.run.recipe, source=pruned)
        after = dataclasses.replace(work, run=dataclasses.replace(work.run, recipe=recipe))
        made = distill.distill_in_run(after, step)
        again = distill.distill_in_run(after, step)

    assert made == again
    assert in_process == ["prune_in_child", "distill_in_child"]
    assert made.source is not None
    assert made.source.weights is not None
    assert made.source.weights.is_relative_to(folder / "store")
    assert is_pruned(made.source.weights)
    left, learned = (load_module(one)[3].weight for one in (pruned, made.source))
    assert left.shape == learned.shape
    assert left.shape[0] < 32
    sizes, told = made.summary
    assert "weights teach" in sizes
    assert told.startswith("learned from 0.1 CrossEntropy + 0.9 SoftTargets for 10 steps")
    assert "the teacher has top1" in told
    assert not list((folder / "store").glob("training/*"))
    assert made.training_logs is not None
    (log,) = made.training_logs.rglob("metrics.jsonl")
    assert log.parent.name == "generation-0"
    assert json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"] == 10


def test_a_given_student_learns(folder: Path, in_process: list[str]) -> None:
    step = StudentStep(student=given(folder, width=8), learning=LEARN, device="cpu")
    with work_for(folder, step) as work:
        made = distill.distill_in_run(work, step)
    assert in_process == ["distill_in_child"]
    assert made.source is not None
    assert made.source.arguments == {"width": 8}
    assert load_module(made.source)[3].weight.shape == (8, 16, 3, 3)


def test_what_is_judged_is_what_learns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[data] output names it, for pruning and distilling alike."""
    told: list[dict[str, Any]] = []

    def stop(context: RunContext, function: str, payload: dict[str, Any], **others: Any) -> None:
        del context, function, others
        told.append(payload)
        raise KeyboardInterrupt

    monkeypatch.setattr(workbench, "run_recorded", stop)
    (folder / "recipe.toml").write_text(
        (folder / "recipe.toml").read_text(encoding="utf-8") + 'data.output = "scores"\n', encoding="utf-8"
    )
    pruning = PruneStep(amount=0.5, training=FineTuning(epochs=1, batch_size=16))
    distilling = StudentStep(student=given(folder, width=8), learning=LEARN)
    with work_for(folder, pruning) as work:
        for do, step in ((prune.prune_in_run, pruning), (distill.distill_in_run, distilling)):
            with pytest.raises(KeyboardInterrupt):
                do(work, step)

    assert told[0]["step"]["training"]["output"] == "scores"
    assert told[1]["judged"] == "scores"
    assert told[1]["replaces"] is True


def test_a_scaled_student_is_the_largest_that_is_fast_enough(
    folder: Path, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = StudentStep(
        student=given(folder), scale=Scale(argument="width", values=(4, 8, 16, 32)), speedup=2.5, learning=LEARN
    )
    asked: list[int] = []

    def exported(work: object, function: str, payload: Mapping[str, Any], **others: Any) -> tuple[None, None]:
        del work, function, others
        asked.append(payload["source"]["arguments"]["width"])
        return None, None

    def compared(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(comparison=SimpleNamespace(speedup=SimpleNamespace(estimate=32 / asked[-1])))

    monkeypatch.setattr(workbench, "run_recorded", exported)
    monkeypatch.setattr(workbench, "compare_artifacts", compared)
    monkeypatch.setattr(workbench, "median_of", lambda *_: 4e6)
    with work_for(folder, step) as work:
        student, said = distill._student_of(work, step)
        trials = list(asked)
        assert distill._student_of(work, step) == (student, said)
        assert asked == trials

        faster = dataclasses.replace(step, speedup=100.0)
        fastest, missed = distill._student_of(work, faster)

    assert student.arguments == {"width": 8}
    assert trials == [16, 8]
    assert said == ("width = 8 of 4, 8, 16, 32: measured on the target 4 ms to 1 ms, 4x (asked were 1.6 ms)",)
    assert fastest.arguments == {"width": 4}
    assert missed[-1] == "the latency was not reached; this is the fastest student"


def test_a_student_learns_without_a_sample(folder: Path, in_process: list[str]) -> None:
    values = {"latent": 4, "width": 4, "batch": 8, "memory": 16, "warm_up": 1}
    learning = WithoutDataStep(steps=3, batch_size=8, values=values)
    step = StudentStep(student=given(folder, width=8), learning=learning, device="cpu")
    spec = TensorSpec(name="input", dtype="float32", shape=("batch", 3, 10, 10), value_range=(0.0, 1.0))
    with work_for(folder, step) as work:
        recipe = dataclasses.replace(work.run.recipe, inputs=(spec,))
        context = dataclasses.replace(work.run, recipe=recipe)
        nowhere = TrainingSamples(run=context, shared=work.shared, folder=folder / "nowhere")
        without = dataclasses.replace(work, run=context, samples=nowhere)
        made = distill.distill_in_run(without, step)

    assert in_process == ["distill_in_child"]
    assert not (folder / "nowhere").exists()
    assert made.source is not None
    assert load_module(made.source)[3].weight.shape == (8, 16, 3, 3)
    assert "for 3 steps; nothing told on the way how good it is" in made.summary[1]


def test_a_student_with_other_outputs_can_not_take_the_teachers_place() -> None:
    def model(name: str, *shape: int | str) -> OnnxModel:
        spec = TensorSpec(name=name, dtype="float32", shape=shape)
        return OnnxModel(path=Path("m.onnx"), inputs=(spec,), outputs=(spec,), opset=20, digest="")

    teacher = model("scores", "batch", 10)
    require_alike(teacher, model("scores", "n", 10))
    for other in (model("scores", "batch", 100), model("logits", "batch", 10), model("scores", "batch", 10, 1)):
        with pytest.raises(DistillationError, match=r"in place of scores: float32 \['batch', 10\]"):
            require_alike(teacher, other)


def test_stages_have_names_and_guesses(folder: Path) -> None:
    scaled = StudentStep(student=given(folder), scale=Scale(argument="width", values=(4, 8)), speedup=2.0)
    made = StudentStep(student=given(folder), learning=WithoutDataStep())
    steps = (PruneStep(amount=0.5), PruneStep(speedup=2.0), StudentStep(), scaled, made, QatStep())
    names = ["prune", "prune 2", "distill", "distill 2", "distill 3", "qat"]
    assert stage_names(steps) == names
    recipe = _with(load_recipe(folder / "recipe.toml"), steps)
    short, long = guess_s(recipe, 1000), guess_s(recipe, 50_000)
    assert list(short) == [name.replace(" ", "_") for name in names]
    assert short["prune"] < short["prune_2"]
    assert short["distill"] < short["distill_2"]
    assert long["qat"] > short["qat"]
    assert long["distill"] > short["distill"]
    assert long["distill_3"] == short["distill_3"]


def _with(recipe: Recipe, steps: tuple[CompressStep, ...]) -> Recipe:
    return dataclasses.replace(recipe, compress=steps)


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
method = "distill"
epochs = 1
batch_size = 16

[[compress]]
method = "qat"
epochs = 1
batch_size = 16
"""


STAGES = ("prune", "distill", "qat")


@pytest.mark.slow
def test_a_run_with_steps_from_end_to_end(folder: Path) -> None:
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    whole, failing = folder / "whole.toml", folder / "failing.toml"
    failing.write_text(text + STEPS, encoding="utf-8")
    whole.write_text(text + STEPS.replace('[[compress]]\nmethod = "prune"\nstructure = "blocks"\namount = 3\n', ""))

    result = api.run(whole, output=folder / "out", store=folder / "store")

    rows = result.compression
    assert [row.variant for row in rows] == ["original", "pruned", "pruned + distilled", "pruned + distilled + trained"]
    assert [row.problem for row in rows] == ["", "", "", ""]
    for row in rows[1:3]:
        assert row.verification is not None
        assert row.verification.outcome is Outcome.PASS
        assert row.seconds > 0
    shown = [result.candidate(row.candidate) for row in rows]
    sizes = [one.artifact.size_bytes for one in shown if one.artifact is not None]
    assert len(sizes) == 4
    assert sizes[0] > sizes[1]
    assert max(sizes[1:]) - min(sizes[1:]) < 0.05 * sizes[1]  # the same network in int8, with other numbers in it
    assert all(one.latency is not None and one.accuracy is not None for one in shown)
    # All are judged against the original's outputs, and it alone is a float to beat.
    assert {one.accuracy.reference for one in result.candidates if one.accuracy} == {"PyTorch float32"}
    assert [one.name for one in result.candidates if one.is_float] == ["onnxruntime fp32"]
    assert result.best_float == "onnxruntime fp32"
    assert shown[0].accuracy is not None
    assert shown[0].accuracy.value.estimate == 1.0
    assert "Step by step" in (folder / "out" / "report.html").read_text(encoding="utf-8")
    courses = [row.courses for row in rows]
    names = [
        "onnxruntime-fp32-pruned",
        "onnxruntime-fp32-pruned-distilled",
        "onnxruntime-int8-pruned-distilled-trained",
    ]
    assert courses == [None, *(folder / "out" / "courses" / name for name in names)]
    assert all(list(one.rglob("metrics.jsonl")) for one in courses if one is not None)
    told = json.loads((folder / "out" / "result.json").read_bytes())["compression"]
    assert [row["step"] for row in told] == [row.step for row in rows]
    if result.candidate(result.chosen).variant != "original":
        manifest = json.loads((folder / "out" / "bundle" / "manifest.json").read_bytes())
        assert manifest["provenance"]["compressed_by"][0].startswith("prune units by l2")
        assert manifest["provenance"]["training_samples"] == 96

    rehearsed = api.dry_run(whole, store=folder / "store")
    assert [step.name for step in rehearsed.steps if step.name in STAGES and step.stored] == list(STAGES)

    result = api.run(failing, output=folder / "out", store=folder / "store")

    problems = [row.problem for row in result.compression]
    assert problems[:2] == ["", ""]
    assert problems[2]
    assert problems[3] == problems[4] == "not done, since prune 2 before it failed"
    assert {one.variant for one in result.candidates} == {"original", "pruned"}
    assert "onnxruntime int8, pruned" in {one.name for one in result.candidates}
