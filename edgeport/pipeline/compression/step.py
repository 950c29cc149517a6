"""What one step of [[compress]] is handed, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeport.contracts import Candidate, CompressStep, ModelSource, OnnxModel, Target, TrainedStep, to_jsonable
from edgeport.isolation import run_isolated
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.datasets.calibration_samples import learning_payload
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import digest_of_function, source_files, tool_versions
from edgeport.pipeline.source_model.export import export_options

__all__ = ["COURSES", "Made", "Plan", "StepWork", "TrainingSamples", "changes_text", "removed_text", "trained_text"]

COURSES = "courses"
"""Folder of what a step left in the store, with metrics and curves of each of its trainings."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A candidate that is quantized by what was learned with its rounding.

    Attributes:
        candidate: Compiled, or with its refusal; its name and variant are the run's business.
        model: The float file with the learned weights.
        expected: `.npz` with PyTorch's outputs with the rounding, over the evaluation set.
        said: What was learned, a sentence each.
        courses: Folder in the store with the course of the training.

    """

    candidate: Candidate
    model: OnnxModel
    expected: Path
    said: tuple[str, ...] = ()
    courses: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a step gives.

    Attributes:
        source: Another PyTorch module: the source with other weights, or another source; None where nothing changed.
        plans: Candidates that were trained with their plans.
        said: What was done, or why nothing was, a sentence each.
        courses: Folder in the store with the courses of its trainings, if it had any.

    """

    source: ModelSource | None = None
    plans: tuple[Plan, ...] = ()
    said: tuple[str, ...] = ()
    courses: Path | None = None


@dataclass
class TrainingSamples:
    """What is learned from, written once for all steps of a run that need it.

    Attributes:
        context: Of the run.
        shared: Of the model that the recipe names.
        folder: That `open_samples` opens.

    """

    context: RunContext
    shared: Shared
    folder: Path
    _written: bool = field(default=False)

    def place(self) -> Path:
        """The folder, with the samples in it.

        Raises:
            SamplesError: They differ in shape, or have labels now and then.

        """
        if not self._written:
            payload = {
                **learning_payload(self.context.recipe, self.shared.samples),
                "model": to_jsonable(self.shared.prepared.model),
                "folder": str(self.folder),
            }
            run_isolated(
                "edgeport.pipeline.compression.qat_worker:keep_in_child",
                payload,
                limits=self.context.limits,
                asked=f"read the samples that {self.context.recipe.name} learns from",
            )
            self._written = True
        return self.folder


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """What a step is handed.

    Attributes:
        context: Of the run; its recipe names the model that the step begins with.
        original: The model that the recipe names: the teacher.
        shared: Of the model that the step begins with.
        target: Whose latency counts.
        stage: Name of the step in progress.
        samples: To learn from.

    """

    context: RunContext
    original: ModelSource
    shared: Shared
    target: Target
    stage: str
    samples: TrainingSamples

    @property
    def bench(self) -> BenchSettings:
        """How networks are measured on the target, where latency decides."""
        search = self.context.recipe.search
        return BenchSettings(
            backend=self.target.backend,
            threads=self.target.execution.threads,
            rounds=search.screening_rounds,
            duration_s=search.duration_s,
            device=self.target.device,
            limits=self.context.limits,
        )

    def key(self, step: CompressStep) -> dict[str, Any]:
        """What a step's result rests on, but for what is measured."""
        recipe = self.context.recipe
        return {
            "source": to_jsonable(recipe.source) | {"weights": "", **source_files(recipe.source)},
            "original": to_jsonable(self.original) | {"weights": "", **source_files(self.original)},
            "step": to_jsonable(step),
            "samples": self.shared.samples.learned_from[0],
            "labels": recipe.data.target,
            "export": export_options(self.context),
            "functions": [digest_of_function(one, recipe.search_path) for one in step.functions],
            "backends": [target.backend for target in recipe.targets],
            "versions": tool_versions(),
        }


def trained_text(trained: TrainedStep) -> str:
    """What a training gave, in a sentence."""
    if trained.best_step == 0:
        return f"trained for {trained.steps} steps, none of which made it better on held-out samples"
    return f"trained for {trained.steps} steps; on held-out samples {changes_text(trained.before, trained.after)}"


def changes_text(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Numbers before and after: "loss 2.4 to 0.2, top1 0.1 to 0.9"."""
    return ", ".join(
        f"{name} {_short(before[name])} to {_short(value)}" for name, value in after.items() if name in before
    )


def _short(value: float) -> str:
    return f"{value:.4g}"


def removed_text(found: Mapping[str, Any]) -> str:
    """What a pruning took out, in a sentence."""
    (weights, weights_left), (macs, macs_left) = found["weights"], found["macs"]
    parts = [f"{weights:,.0f} weights to {weights_left:,.0f}", f"{macs:,.0f} multiplications to {macs_left:,.0f}"]
    if found["zeros"] > 0.01:
        parts.append(f"{found['zeros']:.1%} of the weights are zero")
    if found["blocks"]:
        parts.append(f"without {', '.join(found['blocks'])}")
    return "; ".join(parts)
