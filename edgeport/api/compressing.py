"""Smaller models of the same code: pruning, and training with rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Limits,
    ModelSource,
    OnProgress,
    PruneStep,
    silent,
)
from edgeport.errors import ContractError, UsageError
from edgeport.options.declare import common_fields
from edgeport.options.goals import GoalTiming
from edgeport.options.prune import PruneOptions
from edgeport.options.qat import QatOptions

if TYPE_CHECKING:
    from edgeport.pipeline.compression.reports import PruneReport, QatReport

__all__ = [
    "prune",
    "qat",
]


def prune(
    source: ModelSource,
    samples: Path,
    *,
    output: Path,
    options: PruneOptions,
    target: str = "",
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> PruneReport:
    """Takes out of a PyTorch model what it can do without, in child processes, and keeps what is left.

    Where a latency or a speedup is asked, the exported float model is timed on this machine, again and again with other
    channels gone, until the goal is met; what comes out is compared with the unpruned model in fresh pairs, fails where
    the goal is not met by these, and is not kept where it is not surely faster. A training that was stopped goes on
    where it was, with the network that such a search had found. Its course lies beside the output.

    Args:
        source: The model; one that is built from code.
        samples: `.npz` with two samples or more of every input.
        output: `.safetensors`, which is loaded as the weights of the same source, or `.pt2`, which needs no code.
        options: What goes, how much of it, and how what is left is trained.
        target: Key of the labels in the samples, for criteria that need a loss and for the training.
        store: As in `run`; of trainings that were stopped.
        on_progress: Told of every step.
        limits: Of each child.
        fresh: Begin a training that was stopped anew.

    Raises:
        PruningError: Nothing can be removed, or not so much, or the criterion has no answer.
        SourceError, SamplesError: The model or the samples can't be used.
        TrainingError: A training diverged.
        UsageError: No goal, or two of them.

    """
    from edgeport.pipeline.benchmarking.artifact import BenchSettings
    from edgeport.pipeline.compression.prune import prune_source

    try:
        step = PruneStep.from_options(options)
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
    return prune_source(
        source,
        samples,
        step,
        output=output,
        target=target,
        settings=BenchSettings(**common_fields(GoalTiming, options), limits=limits),
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def qat(
    recipe: Path,
    *,
    output: Path | None = None,
    options: QatOptions = QatOptions(),
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
) -> QatReport:
    """Quantization-aware training: the model learns with the rounding of one target's plan, from its ranges on.

    The output folder gets `model.onnx` (float, with the learned weights), `plan.json` (which quantizes it to what was
    trained), `best/` (the artifact) and `metrics.jsonl`. The result is judged on the evaluation set and timed beside
    every float of its runtime; `chosen` says what should ship. A training that was stopped goes on where it was.

    Args:
        recipe: A TOML file with a PyTorch model.
        output: A new folder, or one of an earlier training; `edgeport-qat` beside the recipe by default.
        options: The target, and how its plan is learned with.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: As in `run`.

    Raises:
        UsageError: No such target or precision; or a model that can't be trained (ONNX, with a state).
        SamplesError: Too few samples, or labels that do not fit the loss.
        TrainingError: It diverged.
        PlanError: Nothing of the plan is in the PyTorch graph.
        DependencyError: Several processes, and Lightning Fabric is not installed.
        OutputError: Something else is in the output's place.
        EdgeportError: The model or the data can't be used.

    """
    from edgeport.exporter.qat.options import QatOptions as LearningOptions
    from edgeport.exporter.qat.options import default_rate, default_teacher
    from edgeport.exporter.train.settings import TrainingSettings
    from edgeport.pipeline.compression.qat import qat_recipe
    from edgeport.pipeline.quantization.planning import precision_named
    from edgeport.recipe import load_recipe

    precision = precision_named(f"train in {options.precision!r}", options.precision)
    chosen = replace(
        options,
        rate=options.rate or default_rate(precision),
        teacher=default_teacher(precision, options.loss) if options.teacher is None else options.teacher,
    )
    try:
        training = TrainingSettings(**common_fields(TrainingSettings, chosen) | {"precision": options.mixed})
        learning = LearningOptions(**common_fields(LearningOptions, chosen), training=training)
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
    return qat_recipe(
        load_recipe(recipe),
        output=output if output is not None else recipe.parent / "edgeport-qat",
        backend=options.backend,
        precision=precision,
        samples=options.samples,
        options=learning,
        device=options.device,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )
