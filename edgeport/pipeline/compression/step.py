"""What one step of [[compress]] is handed, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeport.contracts import Candidate, CompressStep, ModelSource, OnnxModel, Target, to_jsonable
from edgeport.errors import SamplesError
from edgeport.exporter.train.samples import INDEX
from edgeport.isolation import run_isolated
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.compression.workbench import Workbench
from edgeport.pipeline.datasets.calibration_samples import learning_payload
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import digest_of_function, source_files, tool_versions
from edgeport.pipeline.source_model.export import export_options

__all__ = [
    "StepContext",
    "StepResult",
    "TrainedCandidate",
    "TrainingSamples",
    "require_batches",
    "source_key",
]


@dataclass(frozen=True, kw_only=True)
class TrainedCandidate:
    """A candidate that is quantized by what was learned with its rounding.

    Attributes:
        candidate: Compiled, or with its refusal; its name and variant are the run's business.
        model: The float file with the learned weights.
        expected: `.npz` with PyTorch's outputs with the rounding, over the evaluation set.
        summary: What was learned, a sentence each.
        training_logs: Folder in the store with the log of the training.

    """

    candidate: Candidate
    model: OnnxModel
    expected: Path
    summary: tuple[str, ...] = ()
    training_logs: Path | None = None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step gives.

    Attributes:
        source: Another PyTorch module: the source with other weights, or another source; None where nothing changed.
        candidates: That were trained with their plans.
        summary: What was done, or why nothing was, a sentence each.
        training_logs: Folder in the store with the logs of its trainings, if it had any.

    """

    source: ModelSource | None = None
    candidates: tuple[TrainedCandidate, ...] = ()
    summary: tuple[str, ...] = ()
    training_logs: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSamples:
    """What is learned from, written once for all steps of a run that need it.

    Attributes:
        run: The run.
        shared: Of the model that the recipe names.
        folder: That `open_samples` opens.

    """

    run: RunContext
    shared: Shared
    folder: Path

    def place(self) -> Path:
        """The folder, with the samples in it.

        Raises:
            SamplesError: They differ in shape, or have labels now and then.

        """
        if not (self.folder / INDEX).exists():
            payload = {
                **learning_payload(self.run.recipe, self.shared.samples),
                "model": to_jsonable(self.shared.prepared.model),
                "folder": str(self.folder),
            }
            run_isolated(
                "edgeport.pipeline.compression.qat_worker:keep_in_child",
                payload,
                limits=self.run.limits,
                asked=f"read the samples that {self.run.recipe.name} learns from",
            )
        return self.folder


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step is handed.

    Attributes:
        run: The run; its recipe names the model that the step begins with.
        original: The model that the recipe names: the teacher.
        shared: Of the model that the step begins with.
        target: Whose latency counts.
        stage: Name of the step in progress.
        samples: To learn from.

    """

    run: RunContext
    original: ModelSource
    shared: Shared
    target: Target
    stage: str
    samples: TrainingSamples

    def workbench(self, step: CompressStep) -> Workbench:
        """Where the step works; networks are measured on the target, where latency decides."""
        run, search, execution = self.run, self.run.recipe.search, self.target.execution
        scratch = run.scratch / self.stage
        scratch.mkdir(exist_ok=True)
        return Workbench(
            store=run.store,
            scratch=scratch,
            limits=run.limits,
            purpose=f"{step.said} of {run.recipe.name}",
            on_progress=run.clock.inside(self.stage),
            key=self.key(step),
            settings=BenchSettings(
                backend=self.target.backend,
                threads=execution.threads,
                rounds=search.screening_rounds,
                duration_s=search.duration_s,
                device=self.target.device,
                limits=run.limits,
            ),
            context=run,
        )

    def key(self, step: CompressStep) -> dict[str, Any]:
        """What a step's result rests on, but for what is measured."""
        recipe = self.run.recipe
        return {
            "source": source_key(recipe.source),
            "original": source_key(self.original),
            "step": to_jsonable(step),
            "samples": self.shared.samples.learned_from[0],
            "labels": recipe.data.target,
            "export": export_options(self.run),
            "functions": [digest_of_function(one, recipe.search_path) for one in step.functions],
            "versions": tool_versions(),
        }


def source_key(source: ModelSource) -> dict[str, Any]:
    """A model with digests of its files in place of their paths, for keys."""
    return {**to_jsonable(source), "weights": "", **source_files(source)}


def require_batches(shared: Shared, asked: str) -> None:
    """Makes sure that any samples can be trained on together.

    Raises:
        SamplesError: A fixed batch, or samples of several shapes.

    """
    if shared.prepared.model.fixed_batch is not None or shared.samples.is_ragged:
        raise SamplesError(
            asked=asked,
            found="a model with a fixed batch" if shared.prepared.model.fixed_batch else "samples of several shapes",
            fix="export it with a free batch (dynamic_batch = true), and give samples of one shape",
        )
