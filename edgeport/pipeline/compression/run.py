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
from edgeport.errors import DeviceLost, EdgeportError, RecipeError, SamplesError, SourceError, UsageError
from edgeport.pipeline.build_inputs import Shared
from edgeport.pipeline.compilation.candidates import list_candidates, named_apart
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compression.distill_step import distill_in_run, require_alike
from edgeport.pipeline.compression.prune_step import prune_in_run
from edgeport.pipeline.compression.qat_step import learn_in_run
from edgeport.pipeline.compression.step import Made, StepWork, TrainingSamples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.estimates import guess_s, stage_names
from edgeport.pipeline.engine.progress import Within
from edgeport.pipeline.quantization.calibration import calibrate_model
from edgeport.pipeline.quantization.recovery import refining_payload, transformed_model
from edgeport.pipeline.source_model.prepare import prepare_model

__all__ = ["Compressed", "compress"]

_STEPS: Mapping[type, Callable[[StepWork, Any], Made]] = {
    PruneStep: prune_in_run,
    StudentStep: distill_in_run,
    QatStep: learn_in_run,
}
"""Step to what does it. One that makes another PyTorch module gives its source; one that makes plans, candidates."""

_PASSED_ON = (SamplesError, SourceError, UsageError, RecipeError, DeviceLost)
"""About what the user gave, or no longer has: these end the run; any other failure of a step is its row."""


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What the steps gave.

    Attributes:
        rows: The original and each step, as the report shows them.
        candidates: Compiled, or with their refusals.
        models: Variant to its ONNX file.
        last: What all candidates of the last module are made from; None where no step gave a module.
        label: Its variant.
        source: Of that module.
        expected: Candidate that was trained with its plan's rounding to PyTorch's outputs with it (`.npz`).

    """

    rows: tuple[CompressedBy, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    models: Mapping[str, OnnxModel] = field(default_factory=dict)
    last: Shared | None = None
    label: str = ""
    source: ModelSource | None = None
    expected: Mapping[str, Path] = field(default_factory=dict)


@dataclass
class _State:
    """Between two steps; `whole` where `shared` has the statistics of its own model."""

    source: ModelSource
    shared: Shared
    labels: tuple[str, ...] = ()
    whole: bool = True
    rows: list[CompressedBy] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    models: dict[str, OnnxModel] = field(default_factory=dict)
    expected: dict[str, Path] = field(default_factory=dict)

    def label(self, step: CompressStep) -> str:
        """Of the variant after this step."""
        return " + ".join((*self.labels, step.variant))


def compress(context: RunContext, shared: Shared) -> Compressed:
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
    if not recipe.compress:
        return Compressed()
    shown = _shown(context, shared)
    stages = stage_names(recipe.compress)
    context.clock.expect(**guess_s(recipe, shared.samples.learned_from[1]))
    state = _State(source=recipe.source, shared=shared)
    state.rows.append(CompressedBy(step="as it is", variant=ORIGINAL, candidate=_float_of(context, shared, shown)))
    samples = TrainingSamples(context=context, shared=shared, folder=context.scratch / "training")
    failed = ""
    for name, step in zip(stages, recipe.compress, strict=True):
        if failed:
            state.rows.append(_not_done(state, step, f"not done, since {failed} before it failed"))
            continue
        inner = replace(
            context,
            clock=Within(outer=context.clock, of=name),
            recipe=replace(recipe, source=state.source),
        )
        context.clock.step(name, step.said)
        work = StepWork(
            context=inner, original=recipe.source, shared=state.shared, target=shown, stage=name, samples=samples
        )
        try:
            _do(work, step, state)
        except _PASSED_ON:
            raise
        except EdgeportError as error:
            state.rows.append(_not_done(state, step, error.reason))
            failed = name
    last = replace(
        context,
        clock=Within(outer=context.clock, of=stages[-1]),
        recipe=replace(recipe, source=state.source),
    )
    try:
        _complete(last, state)
    except _PASSED_ON:
        raise
    except EdgeportError as error:  # no statistics of it: it stays what it is in float
        state.rows[-1] = replace(state.rows[-1], problem=error.reason)
    made = bool(state.labels) and state.whole
    return Compressed(
        rows=tuple(state.rows),
        candidates=tuple(state.candidates),
        models=state.models,
        last=state.shared if made else None,
        label=" + ".join(state.labels),
        source=state.source if made else None,
        expected=state.expected,
    )


def _not_done(state: _State, step: CompressStep, problem: str) -> CompressedBy:
    return CompressedBy(step=step.said, variant=state.label(step), problem=problem)


def _do(work: StepWork, step: CompressStep, state: _State) -> None:
    """One step, and what is compiled of it."""
    began, label = time.monotonic(), state.label(step)
    if isinstance(step, QatStep):  # begins with the statistics of the module as it is now
        _complete(work.context, state)
        work = replace(work, shared=state.shared)
    made = _STEPS[type(step)](work, step)
    # At once: a run that is stopped from here on finds the step done, and would tell what finding it took.
    took = work.context.store.get_or_build_json("took", work.key(step), lambda: round(time.monotonic() - began, 3))
    if made.source is not None:
        inner = replace(work.context, recipe=replace(work.context.recipe, source=made.source))
        prepared = prepare_model(inner, state.shared.samples)
        require_alike(state.shared.prepared.model, prepared.model)
        prepared = replace(prepared, reference=state.shared.prepared.reference)
        state.shared = replace(state.shared, prepared=prepared)
        state.source, state.labels, state.whole = made.source, (*state.labels, step.variant), False
        state.models[label] = prepared.model
    row = CompressedBy(step=step.said, variant=label, said=made.said, seconds=float(took))
    if made.source is not None:
        shows = _named(_shows(work.target), label)
        state.candidates += _compiled(work.context, state, [shows])
        verified = state.shared.prepared.verification
        state.rows.append(replace(row, candidate=shows.name, verification=verified, courses=made.courses))
        return
    if not made.plans:
        state.rows.append(replace(row, said=(), problem="; ".join(made.said)))
    for plan in made.plans:
        (candidate,) = named_apart([_named(plan.candidate, label)], state.candidates)
        state.rows.append(replace(row, said=plan.said, candidate=candidate.name, courses=plan.courses))
        state.candidates.append(candidate)
        state.expected[candidate.name] = plan.expected
        state.models[label] = plan.model


def _complete(context: RunContext, state: _State) -> None:
    """All candidates of the recipe for the module that was made last, with statistics of its own for integers."""
    if state.whole:
        return
    model, samples = state.shared.prepared.model, state.shared.samples
    transformed = transformed_model(context, model, samples)
    found = calibrate_model(context, transformed.model, samples, state.shared.by_device, transforms=transformed.said)
    state.shared = replace(
        state.shared,
        transformed=transformed.model,
        calibration=found.file,
        calibration_digest=found.digest,
        methods=found.methods,
    )
    state.whole = True
    label = " + ".join(state.labels)
    there = {one.name for one in state.candidates}
    own = list_candidates(context.recipe.targets, state.shared.capabilities)
    wanted = [_named(one, label) for one in own if not one.baseline]
    state.candidates += _compiled(context, state, [one for one in wanted if one.name not in there])


def _compiled(context: RunContext, state: _State, listed: list[Candidate]) -> list[Candidate]:
    shared = state.shared
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
