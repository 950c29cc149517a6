"""A recipe from start to end: export, verify, calibrate, compile, validate, time, choose, bundle, report."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgeport.contracts import (
    Candidate,
    Capabilities,
    Limits,
    Measurement,
    OnnxModel,
    OnProgress,
    Outcome,
    RunResult,
    TensorSpec,
    dump_json,
    silent,
    worst_of,
)
from edgeport.contracts.recipe import Recipe, TargetGroup
from edgeport.errors import DependencyError, SamplesError, UsageError
from edgeport.module_files import module_file
from edgeport.pipeline.as_given import as_given, named_as_given
from edgeport.pipeline.batches import calls_note, write_first_batch
from edgeport.pipeline.building import build_candidates, list_candidates, probe
from edgeport.pipeline.choosing import (
    best_float,
    conclude,
    faster_yardstick,
    is_yardstick,
    judge,
)
from edgeport.pipeline.clock import Clock
from edgeport.pipeline.context import RunContext, side_by_side
from edgeport.pipeline.lacking import nearest
from edgeport.pipeline.making import with_samples_made
from edgeport.pipeline.measuring import confirm, load_fully, screen
from edgeport.pipeline.output import prepare_output, remove_unused, write_output, write_summary
from edgeport.pipeline.preparing import PreparedModel, calibrate_model, prepare_model
from edgeport.pipeline.refining import refining_payload
from edgeport.pipeline.samples import PreparedSamples, prepare_samples
from edgeport.pipeline.scratch import scratch_folder
from edgeport.pipeline.timing import Timed
from edgeport.pipeline.transforming import transformed_model
from edgeport.pipeline.validating import validate_candidates
from edgeport.recipe.evidence import thin_by_target, thin_evidence
from edgeport.store import Store

__all__ = ["require_local", "run_recipe", "walk"]

_LOG = logging.getLogger(__name__)

_PROCESS_S = 0.9
"""Starting a process and loading a runtime, for the first guess of the time left."""


def run_recipe(
    recipe: Recipe,
    *,
    output: Path,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
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

    Raises:
        EdgeportError: The model, the data or the recipe can't be used. A candidate that fails is a row instead.

    """
    from edgeport.devices.local import LocalDevice

    require_local(recipe)
    made = prepare_output(output, [group.name for group in recipe.groups if group.name])
    with _unused_removed(made), scratch_folder(Store(store).root) as scratch:
        device = LocalDevice(scratch / "device")
        context = RunContext(
            recipe=recipe,
            store=Store(store, fresh=fresh),
            device=device,
            facts=device.facts(),
            clock=Clock(on_progress),
            scratch=scratch,
            limits=limits or recipe.search.limits,
        )
        return walk(context, output)


@contextmanager
def _unused_removed(made: Sequence[Path]) -> Iterator[None]:
    """A run that fails before it wrote anything leaves no empty folder."""
    try:
        yield
    except BaseException:
        remove_unused(made)
        raise


def require_local(recipe: Recipe) -> None:
    """Refuses devices that this release can't reach.

    Raises:
        UsageError: There is one.

    """
    foreign = [target.device for target in recipe.targets if target.device != "local"]
    if foreign:
        raise UsageError(
            asked=f"run on device {foreign[0]!r}",
            found="that this release measures on the local machine only",
            fix='leave device out, or set device = "local"',
        )


def walk(context: RunContext, output: Path) -> RunResult:
    """What all targets share is done once; then each name's candidates are built, judged, timed and chosen from.

    Each name has experiments of its own: only candidates of one name are compared, so only they need to be paired,
    and a target that is added to a recipe leaves the finished rounds of the others as they are.
    """
    context.clock.expect(probe=3)
    _guess(context, sum(len(target.precisions) for target in context.recipe.targets))
    context.clock.step("probe", "asking the backends")
    capabilities = _probe_all(context)
    groups = context.recipe.groups
    counts = [len(list_candidates(group.targets, capabilities)) for group in groups]
    _guess(context, sum(counts))
    context.clock.step("samples", "reading and checking")
    context = with_samples_made(context)
    samples = prepare_samples(context)
    thin = thin_by_target(context.recipe, len(samples.starts) or samples.count)
    from_onnx = context.recipe.source.location.endswith(".onnx")
    if not from_onnx:  # an export may take long: what is known before it is said before it
        _warn(thin)
    prepared = prepare_model(context, samples)
    if from_onnx:
        thin = thin_by_target(context.recipe, len(samples.starts) or samples.count, quantized=prepared.quantized)
        _warn(thin)
    if prepared.quantized:
        context = as_given(context)
        groups = context.recipe.groups
        counts = [len(group.targets) for group in groups]
    samples = _with_batch_of(prepared.model, samples, context)
    transformed = transformed_model(context, prepared.model, samples)
    calibration, digest, warnings = calibrate_model(
        context, transformed.model, samples, capabilities, transforms=transformed.said
    )
    shared = _Shared(
        capabilities=capabilities,
        samples=samples,
        prepared=prepared,
        transformed=transformed.model,
        calibration=calibration,
        calibration_digest=digest,
        notes=_notes(prepared, samples, warnings, capabilities),
        thin=thin,
    )
    found = []
    for index, group in enumerate(groups):
        _guess_target(
            replace(context, recipe=replace(context.recipe, budget=group.budget)),
            counts[index],
            later=sum(counts[index + 1 :]),
        )
        context.clock.about = group.name
        found.append(_run_group(context, group, shared, output / group.name if group.name else output))
    context.clock.about = ""
    result = found[0] if not groups[0].name else _summed_up(context, tuple(found), shared, output)
    result = replace(result, elapsed_s=context.clock.elapsed_s, reused=context.store.hits)
    (output / "result.json").write_bytes(dump_json(result))
    return result


def _warn(thin: Mapping[str, str]) -> None:
    for sentence in filter(None, thin.values()):
        _LOG.warning(sentence)


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What all targets start from.

    Attributes:
        capabilities: By backend.
        samples: Of the recipe.
        prepared: The model.
        transformed: What static int8 is made from; the same model where nothing was done to it.
        calibration, calibration_digest: The statistics; None and empty where no candidate needs any.
        notes: What a reader must know of all this, one sentence each.
        thin: By name of the targets, why the samples can't prove their budget; empty where they can.

    """

    capabilities: dict[str, Capabilities]
    samples: PreparedSamples
    prepared: PreparedModel
    transformed: OnnxModel
    calibration: Path | None
    calibration_digest: str
    notes: tuple[str, ...]
    thin: Mapping[str, str]


def _for_group(whole: RunContext, group: TargetGroup) -> RunContext:
    """The run as if the targets of one name were all of it."""
    return replace(whole, recipe=replace(whole.recipe, targets=group.targets, budget=group.budget, target_budgets={}))


def _run_group(whole: RunContext, group: TargetGroup, shared: _Shared, folder: Path) -> RunResult:
    """What is found for the targets of one name, written to `folder`."""
    context = _for_group(whole, group)
    recipe, thin = context.recipe, shared.thin[group.name]
    samples, prepared = shared.samples, shared.prepared
    judged_output = _judged_output(prepared.model, recipe)
    if not thin_evidence(recipe, len(samples.starts) or samples.count, judged_output, quantized=prepared.quantized):
        thin = ""  # said before the model was known, of outputs that it has not
    built = build_candidates(
        context,
        prepared.model,
        shared.capabilities,
        shared.calibration,
        shared.calibration_digest,
        transformed=shared.transformed,
        refining=refining_payload(recipe, samples),
    )
    if prepared.quantized:
        built = [named_as_given(candidate) for candidate in built]
    validated = validate_candidates(context, built, samples, prepared.reference)
    screened, timed, unplaced = screen(context, validated, samples, prepared.model)
    screened = load_fully(context, screened, validated, samples)
    candidates, confirmation = confirm(context, screened, validated, samples)
    best = best_float(candidates)
    judged = [judge(candidate, recipe.budget) for candidate in candidates]
    # What is out of budget must not ship, but is still the speed that the others are compared with.
    judged_best = next((one for one in judged if best is not None and one.name == best.name), None)
    concluded, chosen = conclude(judged, judged_best, confirmation.against, confirmation.unusable)
    faster = faster_yardstick(concluded, best.name if best is not None else "", chosen)
    result = RunResult(
        name=recipe.name,
        target=group.name,
        model=prepared.model,
        verification=prepared.verification,
        candidates=concluded,
        best_float=best.name if best is not None else "",
        chosen=chosen,
        nearest=() if chosen else nearest(concluded, recipe.budget),
        budget=recipe.budget,
        device=context.facts,
        measurements=timed.measurements,
        confirmation=confirmation.measurements,
        outcome=_outcome(concluded, chosen),
        folder=folder,
        elapsed_s=context.clock.elapsed_s,
        notes=(
            *([thin] if thin else []),
            *shared.notes,
            *_recovery_notes(concluded),
            *_baseline_notes(concluded),
            *_strayed_notes(concluded),
            *([faster] if faster else []),
            *_doubts(timed, confirmation.measurements),
            *unplaced,
        ),
        versions=_versions(shared.capabilities),
    )
    context.clock.step("bundle", "writing the bundle and the report")
    outputs = {one.candidate.name: one.outputs for one in validated if one.outputs is not None}
    return write_output(context, result, samples, outputs.get(chosen))


def _summed_up(context: RunContext, found: tuple[RunResult, ...], shared: _Shared, output: Path) -> RunResult:
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
        versions=_versions(shared.capabilities),
    )
    return write_summary(result)


def _judged_output(model: OnnxModel, recipe: Recipe) -> TensorSpec | None:
    """The output that the metric sees; it was made sure that it is there."""
    return next((spec for spec in model.outputs if spec.name == recipe.data.output), next(iter(model.outputs), None))


def _guess(context: RunContext, count: int) -> None:
    """First guesses in seconds, for `count` candidates on a small machine; they are corrected while it runs."""
    context.clock.expect(samples=1, export=12, verify=2, calibrate=4)
    _guess_target(context, count, later=0)


def _guess_target(context: RunContext, count: int, *, later: int) -> None:
    """As `_guess`, for the `count` candidates of one name, and `later` ones of those that come after it."""
    search = context.recipe.search
    process_s = _PROCESS_S + search.warmup_s + search.duration_s
    context.clock.expect(compile=1.5 * count, validate=1.5 * count, bundle=3, roofline=6)
    context.clock.expect(screen=search.screening_rounds * count * process_s, confirm=search.rounds * 2.5 * process_s)
    if context.recipe.budget.throughput_per_s is not None:
        context.clock.expect(throughput=search.screening_rounds * min(count, 3) * process_s)
    context.clock.expect(later_targets=later * (3 + search.screening_rounds * process_s))


def _probe_all(context: RunContext) -> dict[str, Capabilities]:
    names = list(dict.fromkeys(target.backend for target in context.recipe.targets))
    for name in names:
        _require_module(name)
    found = side_by_side(lambda name: probe(name, context), names, lambda _: None)
    capabilities = dict(zip(names, found, strict=True))
    if not any(one.installed for one in capabilities.values()):
        reasons = "; ".join(one.reason for one in capabilities.values())
        raise DependencyError(
            asked=f"run on {', '.join(names)}",
            found=f"that none of them is installed ({reasons})",
            fix="install one, or name another target; `edgeport doctor` shows what is there",
        )
    return capabilities


def _require_module(backend: str) -> None:
    """A `module:factory` that is nowhere is a slip of the pen, not a candidate that failed."""
    module, colon, _ = backend.partition(":")
    if colon and module_file(module) is None and importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UsageError(
            asked=f"use the backend {backend!r}",
            found=f"no module {module!r} on Python's path",
            fix="install the package it belongs to, name its folder in PYTHONPATH, or correct the name",
        )


def _with_batch_of(model: OnnxModel, samples: PreparedSamples, context: RunContext) -> PreparedSamples:
    """What one timed call takes is as many samples as the model's fixed batch.

    Raises:
        SamplesError: Samples of several shapes, or the steps of sequences, for a batch of several.

    """
    if model.fixed_batch in (None, 1):
        return samples
    if samples.is_ragged or model.state:
        raise SamplesError(
            asked=f"run {context.recipe.name} in batches of {model.fixed_batch}, which the model fixes",
            found="samples of several shapes" if samples.is_ragged else "the steps of sequences, one after the other",
            fix="export the model with a free batch, or a batch of 1",
        )
    single = write_first_batch(samples.feeds, model.fixed_batch or 1, context.scratch / "single.npz")
    return replace(samples, single=single)


def _outcome(candidates: Sequence[Candidate], chosen: str) -> Outcome:
    """PASS where something ships; else INVALID or INCONCLUSIVE where more evidence could change that, else FAIL.

    UNMEASURED where nothing could be run at all.
    """
    if chosen:
        return Outcome.PASS
    outcomes = {candidate.outcome for candidate in candidates if not is_yardstick(candidate)}
    if outcomes <= {Outcome.UNMEASURED}:
        return Outcome.UNMEASURED
    for outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID):
        if outcome in outcomes:
            return outcome
    return Outcome.FAIL


def _notes(
    prepared: PreparedModel,
    samples: PreparedSamples,
    warnings: tuple[str, ...],
    capabilities: Mapping[str, Capabilities],
) -> tuple[str, ...]:
    about_calls = calls_note(prepared.model, samples.count)
    notes = [*prepared.notes, *([about_calls] if about_calls else []), *samples.warnings, *warnings]
    for name, one in capabilities.items():
        if one.reason:
            state = "built, not run" if one.installed and not one.can_run else "not used"
            notes.append(f"{name}: {state}, because of: {one.reason}." if one.installed else f"{name}: {one.reason}")
    return tuple(dict.fromkeys(notes))


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
    from edgeport.devices.latency.integrity import explain, measurement_flags, outcome_of

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


def _versions(capabilities: Mapping[str, Capabilities]) -> dict[str, str]:
    from edgeport import __version__

    runtimes = {name: one.version for name, one in capabilities.items() if one.version}
    return {"edgeport": __version__, "python": platform.python_version(), "system": os.uname().sysname, **runtimes}
