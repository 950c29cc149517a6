"""What a recipe's [[compress]] makes of its model: each step's model, and the candidates that are made of it.

There are two references. Outputs are judged against those of the model that the recipe names, whatever was made of it;
an export is verified against the very module that it was made from. And there is one best float: that of the model that
the recipe names. What was compressed ships only where it surely beats it within the accuracy budget, so that a step
that loses costs time, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    ORIGINAL,
    Candidate,
    CompressedBy,
    CompressStep,
    ModelSource,
    OnnxModel,
    Precision,
    PruneStep,
    QatStep,
    StudentStep,
    Target,
)
from edgeport.errors import (
    DeviceLost,
    DistillationError,
    EdgeportError,
    RecipeError,
    SamplesError,
    SourceError,
    UsageError,
)
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.compilation.candidates import list_candidates, named_apart
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compression.distill import distill_in_run
from edgeport.pipeline.compression.prune import prune_in_run
from edgeport.pipeline.compression.qat import train_in_run
from edgeport.pipeline.compression.step import StepContext, StepResult, TrainingSamples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.estimates import guess_s, stage_names
from edgeport.pipeline.engine.progress import Within
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.quantization.recovery import refining_payload, transformed_model
from edgeport.pipeline.source_model.prepare import prepare_model

__all__ = ["CompressionResult", "compress", "require_alike"]

_STEPS: Mapping[type, Callable[[StepContext, Any], StepResult]] = {
    PruneStep: prune_in_run,
    StudentStep: distill_in_run,
    QatStep: train_in_run,
}
"""Step to what does it. One that makes another PyTorch module gives its source; one that trains plans, candidates."""

_PASSED_ON = (SamplesError, SourceError, UsageError, RecipeError, DeviceLost)
"""About what the user gave, or no longer has: these end the run; any other failure of a step is its row."""


@dataclass(kw_only=True)
class CompressionResult:
    """What the steps gave so far.

    Attributes:
        source: The last module.
        shared: What all candidates of the last module are made from.
        labels: Of its variant, one for each step that made a module.
        is_calibrated: `shared` has the statistics of its own model.
        rows: The original and each step, as the report shows them.
        candidates: Compiled, or with their refusals.
        models: Variant to its ONNX file.
        expected: Candidate that was trained with its plan's rounding to PyTorch's outputs with it (`.npz`).

    """

    source: ModelSource
    shared: Shared
    labels: tuple[str, ...] = ()
    is_calibrated: bool = True
    rows: list[CompressedBy] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    models: dict[str, OnnxModel] = field(default_factory=dict)
    expected: dict[str, Path] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Variant of the last module; empty where no step made one, or it has no statistics of its own."""
        return " + ".join(self.labels) if self.is_calibrated else ""

    def label_after(self, step: CompressStep) -> str:
        """Variant after this step."""
        return " + ".join((*self.labels, step.variant))


def compress(context: RunContext, shared: Shared) -> CompressionResult:
    """Does the steps of a recipe one after the other, for the targets of one name, and compiles what comes of them.

    A step that fails, or finds nothing to do, says so in its row; those after a failed one are not done. What was
    finished before is taken from the store.

    Args:
        context: Of the run, with the targets of one name.
        shared: Of the model that the recipe names.

    Raises:
        SamplesError, SourceError: Samples or code that the steps need can't be used.

    """
    recipe = context.recipe
    result = CompressionResult(source=recipe.source, shared=shared)
    if not recipe.compress:
        return result
    shown = _shown(context, shared)
    stages = stage_names(recipe.compress)
    context.clock.expect(**guess_s(recipe, shared.samples.learned_from[1]))
    result.rows.append(CompressedBy(step="as it is", variant=ORIGINAL, candidate=_float_of(context, shared, shown)))
    samples = TrainingSamples(run=context, shared=shared, folder=context.scratch / "training")
    failed = ""
    for stage, step in zip(stages, recipe.compress, strict=True):
        problem = f"not done, since {failed} before it failed"
        if not failed:
            context.clock.step(stage, step.said)
            work = StepContext(
                run=_within(context, stage, result.source),
                original=recipe.source,
                shared=result.shared,
                target=shown,
                stage=stage,
                samples=samples,
            )
            problem = _problem_of(partial(_do, work, step, result))
            failed = stage if problem else ""
        if problem:
            row = CompressedBy(step=step.said, variant=result.label_after(step), problem=problem)
            result.rows.append(row)
    problem = _problem_of(partial(_calibrate, _within(context, stages[-1], result.source), result))
    if problem:  # no statistics of it: it stays what it is in float
        result.rows[-1] = replace(result.rows[-1], problem=problem)
    return result


def _within(context: RunContext, stage: str, source: ModelSource) -> RunContext:
    """The run as seen from a step, for a model of its own."""
    clock = Within(outer=context.clock, of=stage)
    return replace(context, clock=clock, recipe=replace(context.recipe, source=source))


def _problem_of(work: Callable[[], None]) -> str:
    """Why the work failed; empty where it did not."""
    try:
        work()
    except _PASSED_ON:
        raise
    except EdgeportError as error:
        return error.reason
    return ""


def _do(work: StepContext, step: CompressStep, result: CompressionResult) -> None:
    """One step, and what is compiled of it."""
    began, label = time.monotonic(), result.label_after(step)
    if isinstance(step, QatStep):  # begins with the statistics of the module as it is now
        _calibrate(work.run, result)
        work = replace(work, shared=result.shared)
    done = _STEPS[type(step)](work, step)
    # At once: a run that is stopped from here on finds the step done, and would tell what finding it took.
    key = {**work.key(step), "backends": [target.backend for target in work.run.recipe.targets]}
    took = work.run.store.get_or_build_json("took", key, lambda: round(time.monotonic() - began, 3))
    row = CompressedBy(step=step.said, variant=label, said=done.summary, seconds=float(took))
    if done.source is not None:
        _add_module(work, step, done.source, replace(row, courses=done.training_logs), result)
    elif not done.candidates:
        result.rows.append(replace(row, said=(), problem="; ".join(done.summary)))
    for one in done.candidates:
        (candidate,) = named_apart([_named(one.candidate, label)], result.candidates)
        row = replace(row, said=one.summary, candidate=candidate.name, courses=one.training_logs)
        result.rows.append(row)
        result.candidates.append(candidate)
        result.expected[candidate.name] = one.expected
        result.models[label] = one.model


def _add_module(
    work: StepContext, step: CompressStep, source: ModelSource, row: CompressedBy, result: CompressionResult
) -> None:
    """The module that a step made is exported, verified and shown by a candidate."""
    before = result.shared.prepared
    run = replace(work.run, recipe=replace(work.run.recipe, source=source))
    prepared = prepare_model(run, result.shared.samples)
    require_alike(before.model, prepared.model)
    result.shared = replace(result.shared, prepared=replace(prepared, reference=before.reference))
    result.source, result.labels, result.is_calibrated = source, (*result.labels, step.variant), False
    result.models[row.variant] = prepared.model
    shows = _named(_shows(work.target), row.variant)
    result.candidates += _compiled(work.run, result, [shows])
    result.rows.append(replace(row, candidate=shows.name, verification=prepared.verification))


def require_alike(teacher: OnnxModel, student: OnnxModel) -> None:
    """Makes sure that what a student gives can take the place of what its teacher gives.

    Raises:
        DistillationError: Outputs of other names, dtypes or sizes.

    """
    given, expected = (
        [f"{one.name}: {one.dtype} {list(one.shape)}" for one in model.outputs] for model in (student, teacher)
    )
    alike = len(student.outputs) == len(teacher.outputs) and all(
        own.name == other.name and own.dtype == other.dtype and _same_sizes(own.shape, other.shape)
        for own, other in zip(student.outputs, teacher.outputs, strict=True)
    )
    if not alike:
        raise DistillationError(
            asked="put a student in the place of its teacher",
            found=f"outputs {', '.join(given)} in place of {', '.join(expected)}",
            fix="let the student give outputs of the same names and sizes as the model that the recipe names",
        )


def _same_sizes(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    """As far as they are known."""
    return len(one) == len(other) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(one, other, strict=True)
    )


def _calibrate(context: RunContext, result: CompressionResult) -> None:
    """All candidates of the recipe for the module that was made last, with statistics of its own for integers."""
    if result.is_calibrated:
        return
    model, samples = result.shared.prepared.model, result.shared.samples
    transformed = transformed_model(context, model, samples)
    calibration = calibrate_model(
        context, transformed.model, samples, result.shared.by_device, transforms=transformed.said
    )
    result.shared = replace(
        result.shared,
        transformed=transformed.model,
        calibration=calibration.file,
        calibration_digest=calibration.digest,
        methods=calibration.methods,
    )
    result.is_calibrated = True
    known = {one.name for one in result.candidates}
    own = list_candidates(context.recipe.targets, result.shared.capabilities)
    named = [_named(one, result.label) for one in own if not one.baseline]
    result.candidates += _compiled(context, result, [one for one in named if one.name not in known])


def _compiled(context: RunContext, result: CompressionResult, listed: list[Candidate]) -> list[Candidate]:
    shared = result.shared
    return build_candidates(
        context,
        shared.prepared.model,
        shared.capabilities,
        shared.calibration,
        shared.calibration_digest,
        transformed=shared.transformed,
        refining=refining_payload(context.recipe, shared.samples),
        listed=listed,
        methods=shared.methods,
    )


def _named(candidate: Candidate, label: str) -> Candidate:
    return replace(candidate, name=f"{candidate.name}, {label}", variant=label)


def _shows(target: Target) -> Candidate:
    """What a module is shown by: float32 for the target whose latency counts."""
    return Candidate(
        name=f"{target.backend} {Precision.FP32}",
        backend=target.backend,
        precision=Precision.FP32,
        execution=target.execution,
    )


def _is_of(candidate: Candidate, target: Target) -> bool:
    return candidate.backend == target.backend and candidate.execution == target.execution


def _shown(context: RunContext, shared: Shared) -> Target:
    """The target whose latency decides and is shown: the first one that can run here."""
    targets = context.recipe.targets
    here = (target for target in targets if shared.capabilities[target.backend].can_run)
    return next(here, targets[0])


def _float_of(context: RunContext, shared: Shared, shown: Target) -> str:
    """Name of the original's candidate that the steps are shown against: float32 where there is one."""
    listed = list_candidates(context.recipe.targets, shared.capabilities)
    floats = [one for one in listed if one.precision.is_float and _is_of(one, shown)]
    floats.sort(key=lambda one: one.precision is not Precision.FP32)
    return floats[0].name if floats else ""
