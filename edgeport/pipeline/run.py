"""A recipe from start to end: export, verify, calibrate, compile, validate, time, choose, bundle, report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgeport.contracts import (
    AS_GIVEN,
    ORIGINAL,
    Candidate,
    Capabilities,
    CompressedBy,
    DeviceFacts,
    Limits,
    Measurement,
    OnnxModel,
    OnProgress,
    Outcome,
    PlanSearch,
    RunResult,
    TensorSpec,
    dump_json,
    silent,
    worst_of,
)
from edgeport.contracts.recipe import Recipe, SamplesFile, SamplesLocation, TargetGroup
from edgeport.pipeline.benchmarking.experiment import Timed, compare_arms
from edgeport.pipeline.benchmarking.screening import confirm, load_fully, screen
from edgeport.pipeline.build_inputs import Shared, share
from edgeport.pipeline.compilation.candidates import list_candidates, named_apart
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compression.qat import difference_from, difference_note
from edgeport.pipeline.compression.run import CompressionResult, compress
from edgeport.pipeline.engine.concurrency import on_each
from edgeport.pipeline.engine.context import RunContext, run_context
from edgeport.pipeline.engine.estimates import guess_target
from edgeport.pipeline.evaluation.evaluate import Validated, validate_candidates
from edgeport.pipeline.output.run_output import prepare_output, remove_unused, write_output, write_summary
from edgeport.pipeline.quantization.recovery import refining_payload
from edgeport.pipeline.search.mixed_precision import Tuned, material_of, tune_all
from edgeport.pipeline.selection.near_misses import nearest
from edgeport.pipeline.selection.select import decide, faster_yardstick
from edgeport.pipeline.source_model.onnx_import import named_as_given
from edgeport.recipe.statistical_power import thin_evidence

__all__ = ["made_notes", "run_recipe", "walk"]


def run_recipe(  # noqa: PLR0913 (a run has these choices, each with a default)
    recipe: Recipe,
    *,
    output: Path,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
) -> RunResult:
    """Walks the whole way; what an earlier run of the same recipe finished is taken from the store.

    Args:
        recipe: What is asked.
        output: Folder that gets `bundle/`, `report.html` and `result.json`, or, where the targets are named, a folder
            with bundle and report for each name; nothing is written elsewhere but in the store.
        store: Folder of finished steps; the user's cache folder by default.
        on_progress: Told of every step, with the time left.
        limits: Of each child process; those of the recipe by default.
        fresh: Do everything anew, whatever earlier runs finished.
        device: Of the user's inventory; where targets run that name no device of their own.

    Raises:
        EdgeportError: The model, the data or the recipe can't be used. A candidate that fails is a row instead.

    """
    made = prepare_output(output, [group.name for group in recipe.groups if group.name])
    opened = run_context(recipe, store=store, on_progress=on_progress, limits=limits, fresh=fresh, device=device)
    with _unused_removed(made), opened as context:
        return walk(context, output)


@contextmanager
def _unused_removed(made: Sequence[Path]) -> Iterator[None]:
    """A run that fails before it wrote anything leaves no empty folder."""
    try:
        yield
    except BaseException:
        remove_unused(made)
        raise


def walk(context: RunContext, output: Path) -> RunResult:
    """What all targets share is done once; then each name's candidates are built, judged, timed and chosen from.

    Each name has experiments of its own: only candidates of one name are compared, so only they need to be paired,
    and a target that is added to a recipe leaves the finished rounds of the others as they are.
    """
    context, shared = share(context)
    groups = context.recipe.groups
    apart = [group for group in groups if group.device in context.devices and not context.devices[group.device].here]
    found: dict[str, RunResult] = {}
    if len({group.device for group in apart}) > 1:
        found |= _on_devices(context, apart, shared, output)
    # On this machine nothing else may run meanwhile, so its own targets come last.
    found |= _one_by_one(context, [group for group in groups if group.name not in found], shared, output)
    ordered = tuple(found[group.name] for group in groups)
    result = ordered[0] if not groups[0].name else _summed_up(context, ordered, shared, output)
    result = replace(result, elapsed_s=context.clock.elapsed_s, reused=context.store.hits)
    (output / "result.json").write_bytes(dump_json(result))
    return result


def _one_by_one(
    context: RunContext, groups: Sequence[TargetGroup], shared: Shared, output: Path
) -> dict[str, RunResult]:
    """By name; one after the other."""
    counts = dict(zip((group.name for group in context.recipe.groups), shared.counts, strict=True))
    found = {}
    for index, group in enumerate(groups):
        guess_target(
            replace(context, recipe=replace(context.recipe, budget=group.budget)),
            counts[group.name],
            later=sum(counts[one.name] for one in groups[index + 1 :]),
        )
        context.clock.about = group.name
        folder = output / group.name if group.name else output
        found[group.name] = _run_group(context, group, shared.on(group.device), folder)
    context.clock.about = ""
    return found


def _on_devices(
    context: RunContext, groups: Sequence[TargetGroup], shared: Shared, output: Path
) -> dict[str, RunResult]:
    """By name; the devices at the same time, and the targets of each one after the other."""
    by_device: dict[str, list[TargetGroup]] = {}
    for group in groups:
        by_device.setdefault(group.device, []).append(group)

    def walk_device(name: str, tell: OnProgress) -> dict[str, RunResult]:
        clock = replace(context.clock, on_progress=tell, expected_s=dict(context.clock.expected_s))
        own = replace(context, clock=clock, scratch=context.scratch / name)
        own.scratch.mkdir(exist_ok=True)
        return _one_by_one(own, by_device[name], shared, output)

    work = {name: partial(walk_device, name) for name in by_device}
    return {name: one for found in on_each(work, context.clock.on_progress).values() for name, one in found.items()}


def _for_group(whole: RunContext, group: TargetGroup) -> RunContext:
    """The run as if the targets of one name were all of it."""
    whole = whole.on(group.device)
    return replace(whole, recipe=replace(whole.recipe, targets=group.targets, budget=group.budget, target_budgets={}))


def _run_group(whole: RunContext, group: TargetGroup, shared: Shared, folder: Path) -> RunResult:
    """What is found for the targets of one name, written to `folder`."""
    context = _for_group(whole, group)
    recipe, thin = context.recipe, shared.thin[group.name]
    samples, prepared = shared.samples, shared.prepared
    judged_output = _judged_output(prepared.model, recipe)
    if not thin_evidence(recipe, len(samples.starts) or samples.count, judged_output, quantized=prepared.quantized):
        thin = ""  # said before the model was known, of outputs that it has not
    compressed = compress(context, shared)
    tuned, found_by_search = _tuned(context, shared, compressed)
    listed = list_candidates(recipe.targets, shared.capabilities)
    named = named_apart(found_by_search, [*listed, *compressed.candidates])
    if not compressed.label:
        listed += named
    built = build_candidates(
        context,
        prepared.model,
        shared.capabilities,
        shared.calibration,
        shared.calibration_digest,
        transformed=shared.transformed,
        refining=refining_payload(recipe, samples),
        listed=listed,
        methods=shared.methods,
    )
    if prepared.quantized:
        built = [named_as_given(candidate) for candidate in built]
    built += compressed.candidates
    if compressed.label:
        built += named
    models = {**compressed.models, ORIGINAL: prepared.model, AS_GIVEN: prepared.model}
    validated = validate_candidates(context, built, samples, prepared.reference)
    screened, timed, unplaced = screen(context, validated, samples, models)
    screened = load_fully(context, screened, validated, samples)
    candidates, confirmation = confirm(context, screened, validated, samples)
    decision = decide(candidates, confirmation.against, confirmation.unusable)
    concluded, chosen = decision.candidates, decision.chosen
    faster = faster_yardstick(concluded, decision.best_float, chosen)
    result = RunResult(
        name=recipe.name,
        target=group.name,
        model=prepared.model,
        verification=prepared.verification,
        candidates=concluded,
        best_float=decision.best_float,
        chosen=chosen,
        nearest=() if chosen else nearest(concluded, recipe.budget),
        searches=_searches(tuned, named),
        compression=_with_speed(compressed.rows, timed),
        budget=recipe.budget,
        device=context.facts,
        measurements=timed.measurements,
        confirmation=confirmation.measurements,
        outcome=decision.outcome,
        folder=folder,
        elapsed_s=context.clock.elapsed_s,
        notes=(
            *([thin] if thin else []),
            *shared.notes,
            *(one.said for one in tuned),
            *_recovery_notes(concluded),
            *_baseline_notes(concluded),
            *_trained_notes(validated, compressed),
            *_strayed_notes(concluded),
            *_unread_notes(context, concluded),
            *made_notes(context.recipe.data.evaluation),
            *([faster] if faster else []),
            *_doubts(timed, confirmation.measurements),
            *unplaced,
        ),
        versions=_versions(shared.capabilities, context.facts),
    )
    context.clock.step("bundle", "writing the bundle and the report")
    outputs = {one.candidate.name: one.outputs for one in validated if one.outputs is not None}
    model = models[result.candidate(chosen).variant] if chosen else prepared.model
    return write_output(context, result, samples, outputs.get(chosen), model)


def _tuned(context: RunContext, shared: Shared, compressed: CompressionResult) -> tuple[list[Tuned], list[Candidate]]:
    """The searches for plans, and the candidates that they found: of what was compressed, where something was."""
    label = compressed.label
    if label:
        context = replace(context, recipe=replace(context.recipe, source=compressed.source))
        shared = compressed.shared
    material = material_of(context, shared)
    tuned = tune_all(context, material) if material is not None else []
    found = [one.candidate for one in tuned if one.candidate is not None]
    if not found or not label or material is None:
        return tuned, found
    named = [replace(one, name=f"{one.name}, {label}", variant=label) for one in found]
    return tuned, material.build(context, named)


def _searches(tuned: Sequence[Tuned], named: Sequence[Candidate]) -> tuple[PlanSearch, ...]:
    """Each search, with what its plan is called among the candidates."""
    names = iter([one.name for one in named])
    return tuple(one.as_search(next(names) if one.candidate is not None else "") for one in tuned)


def _summed_up(context: RunContext, found: tuple[RunResult, ...], shared: Shared, output: Path) -> RunResult:
    """All names together, with the page that lists them."""
    result = RunResult(
        name=context.recipe.name,
        targets=found,
        model=shared.prepared.model,
        verification=shared.prepared.verification,
        candidates=(),
        best_float="",
        chosen="",
        budget=context.recipe.budget,
        device=context.facts,
        outcome=worst_of(one.outcome for one in found),
        folder=output,
        elapsed_s=context.clock.elapsed_s,
        notes=shared.notes,
        versions=_versions(shared.capabilities, context.facts),
    )
    return write_summary(result)


def _judged_output(model: OnnxModel, recipe: Recipe) -> TensorSpec | None:
    """The output that the metric sees; it was made sure that it is there."""
    return next((spec for spec in model.outputs if spec.name == recipe.data.output), next(iter(model.outputs), None))


def _recovery_notes(candidates: Sequence[Candidate]) -> list[str]:
    """What was done to bring accuracy back, and to whom."""
    done: dict[str, list[str]] = {}
    for candidate in candidates:
        if candidate.recovered_by:
            done.setdefault(", ".join(candidate.recovered_by), []).append(candidate.name)
    return [f"To recover accuracy in {', '.join(names)}: {what}." for what, names in done.items()]


def _strayed_notes(candidates: Sequence[Candidate]) -> list[str]:
    """Where a runtime did not keep to a float that was chosen for a node."""
    return [
        f"{one.name}: {', '.join(one.strayed[:3])}{' and others' if len(one.strayed) > 3 else ''} ran in another "
        "precision than was chosen; the placement says in which."
        for one in candidates
        if one.strayed
    ]


def made_notes(evaluation: SamplesLocation) -> list[str]:
    """That what judges is no data, where its file says so."""
    if not isinstance(evaluation, SamplesFile) or not evaluation.made:
        return []
    return [
        (
            f"The evaluation samples in {evaluation.path.name} were made up too: what is judged on them says how near "
            "candidates are to the float model, and little of data."
        )
    ]


def _unread_notes(context: RunContext, candidates: Sequence[Candidate]) -> list[str]:
    """Of a device of another architecture nobody here can say what a runtime made of a plan."""
    unread: dict[str, list[str]] = {}
    for one in candidates:
        if one.artifact is not None and one.placement is None and not one.is_float:
            unread.setdefault(one.unread, []).append(one.name)
    if context.processor is None:
        return []
    where = f"{context.facts.name} ({context.facts.machine})"
    return [
        f"Planned for {where} and run there; which nodes of {', '.join(names)} ran as integers was not read"
        f"{': found ' if why else ''}{why}."
        for why, names in unread.items()
    ]


def _baseline_notes(candidates: Sequence[Candidate]) -> list[str]:
    """Why there are rows that the recipe does not name."""
    names = sorted(candidate.name for candidate in candidates if candidate.baseline)
    if not names:
        return []
    what = "a baseline" if len(names) == 1 else "baselines"
    why = "what is quantized must beat every float that its runtime has here"
    return [f"Not in the recipe, but added as {what}: {', '.join(names)}; {why}."]


def _doubts(timed: Timed, confirmation: Mapping[str, Measurement]) -> list[str]:
    """What was unusual while candidates were timed, for whoever reads their absolute latencies."""
    from edgeport.devices.latency.validity_flags import explain, measurement_flags, outcome_of

    names: dict[str, set[str]] = {}
    for measured in (timed.measurements, confirmation):
        for name, measurement in measured.items():
            for flag in measurement_flags(measurement):
                if outcome_of([flag]) is Outcome.INCONCLUSIVE:
                    names.setdefault(flag, set()).add(name)
    return [
        f"While {', '.join(sorted(those))} ran: {explain(flag)}. Gains are paired, so both sides saw it; "
        "absolute latencies may be too high."
        for flag, those in sorted(names.items())
    ]


def _with_speed(rows: Sequence[CompressedBy], timed: Timed) -> tuple[CompressedBy, ...]:
    """Each step against the model as it is, in the pairs of the screening."""
    if not rows:
        return ()
    against = compare_arms(timed, rows[0].candidate, [row.candidate for row in rows])
    return tuple(replace(row, against=against.get(row.candidate)) for row in rows)


def _trained_notes(validated: Sequence[Validated], compressed: CompressionResult) -> list[str]:
    """Where a runtime's outputs are not those that were trained."""
    return [
        f"{one.candidate.name}: {sentence}"
        for one in validated
        if one.candidate.name in compressed.expected
        for sentence in difference_note(difference_from(one, compressed.expected[one.candidate.name]))
    ]


def _versions(capabilities: Mapping[str, Capabilities], facts: DeviceFacts) -> dict[str, str]:
    """Of Edgeport here, and of the runtimes as they are on the device."""
    from edgeport import __version__

    runtimes = {name: facts.runtimes.get(name, one.version) for name, one in capabilities.items() if one.version}
    return {"edgeport": __version__, "python": platform.python_version(), "system": os.uname().sysname, **runtimes}
