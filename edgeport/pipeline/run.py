"""A recipe from start to end: export, verify, calibrate, compile, validate, time, choose, bundle, report."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeport.contracts import (
    Candidate,
    Capabilities,
    Comparison,
    Limits,
    Measurement,
    OnnxModel,
    OnProgress,
    Outcome,
    RunResult,
    dump_json,
    silent,
)
from edgeport.contracts.recipe import Recipe
from edgeport.errors import DependencyError, UsageError
from edgeport.module_files import module_file
from edgeport.pipeline.batches import calls_note, write_first_batch
from edgeport.pipeline.building import build_candidates, list_candidates, probe
from edgeport.pipeline.choosing import (
    best_float,
    challengers,
    conclude,
    faster_yardstick,
    gains,
    is_yardstick,
    judge,
    rivals,
)
from edgeport.pipeline.clock import Clock
from edgeport.pipeline.context import RunContext, side_by_side
from edgeport.pipeline.output import prepare_output, write_output
from edgeport.pipeline.preparing import PreparedModel, calibrate_model, prepare_model
from edgeport.pipeline.roofs import run_rooflines
from edgeport.pipeline.samples import PreparedSamples, prepare_samples
from edgeport.pipeline.scratch import scratch_folder
from edgeport.pipeline.timing import Arm, Timed, compare_arms, time_arms, with_latency
from edgeport.pipeline.validating import Validated, validate_candidates
from edgeport.recipe.evidence import least_p_value, thin_evidence
from edgeport.store import Store

__all__ = ["run_recipe"]

_CONFIRMATIONS = (0.04, 0.008, 0.002)
"""Challengers that are measured again, one after the other, until one holds. Each is one more chance to be fooled: the
probabilities of a wrong interval add up to 5 %, and the first, which is nearly always the last, gets most of it. The
less a confirmation may err, the more rounds it takes to prove anything: see `_least_rounds`."""

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
) -> RunResult:
    """Walks the whole way; what an earlier run of the same recipe finished is taken from the store.

    Args:
        recipe: What is asked.
        output: Folder that gets `bundle/`, `report.html` and `result.json`; nothing is written elsewhere but in the
            store.
        store: Folder of finished steps; the user's cache folder by default.
        on_progress: Told of every step, with the time left.
        limits: Of each child process; those of the recipe by default.

    Raises:
        EdgeportError: The model, the data or the recipe can't be used. A candidate that fails is a row instead.

    """
    from edgeport.devices.local import LocalDevice

    foreign = [target.device for target in recipe.targets if target.device != "local"]
    if foreign:
        raise UsageError(
            asked=f"run on device {foreign[0]!r}",
            found="that this release measures on the local machine only",
            fix='leave device out, or set device = "local"',
        )
    prepare_output(output)
    with scratch_folder(Store(store).root) as scratch:
        device = LocalDevice(scratch / "device")
        context = RunContext(
            recipe=recipe,
            store=Store(store),
            device=device,
            facts=device.facts(),
            clock=Clock(on_progress),
            scratch=scratch,
            limits=limits or recipe.search.limits,
        )
        return _run(context, output)


def _run(context: RunContext, output: Path) -> RunResult:
    context.clock.expect(probe=3)
    _guess(context, sum(len(target.precisions) for target in context.recipe.targets))
    context.clock.step("probe", "asking the backends")
    capabilities = _probe_all(context)
    _guess(context, len(list_candidates(context.recipe.targets, capabilities)))
    context.clock.step("samples", "reading and checking")
    samples = prepare_samples(context)
    thin = thin_evidence(context.recipe, samples.count)
    if thin:
        _LOG.warning(thin)
    prepared = prepare_model(context, samples)
    samples = _with_batch_of(prepared.model, samples, context)
    calibration, digest, warnings = calibrate_model(context, prepared.model, samples)
    built = build_candidates(context, prepared.model, capabilities, calibration, digest)
    validated = validate_candidates(context, built, samples, prepared.reference)
    screened, timed, unplaced = _screen(context, validated, samples, prepared.model)
    candidates, confirmation = _confirm(context, screened, validated, samples)
    best = best_float(candidates)
    judged = [judge(candidate, context.recipe.budget) for candidate in candidates]
    # What is out of budget must not ship, but is still the speed that the others are compared with.
    judged_best = next((one for one in judged if best is not None and one.name == best.name), None)
    concluded, chosen = conclude(judged, judged_best, confirmation.against, confirmation.unusable)
    faster = faster_yardstick(concluded, best.name if best is not None else "", chosen)
    result = RunResult(
        name=context.recipe.name,
        model=prepared.model,
        verification=prepared.verification,
        candidates=concluded,
        best_float=best.name if best is not None else "",
        chosen=chosen,
        budget=context.recipe.budget,
        device=context.facts,
        measurements=timed.measurements,
        confirmation=confirmation.measurements,
        outcome=_outcome(concluded, chosen),
        folder=output,
        elapsed_s=context.clock.elapsed_s,
        notes=(
            *([thin] if thin else []),
            *_notes(prepared, samples, warnings, capabilities),
            *_baseline_notes(concluded),
            *([faster] if faster else []),
            *_doubts(timed, confirmation.measurements),
            *unplaced,
        ),
        versions=_versions(capabilities),
    )
    context.clock.step("bundle", "writing the bundle and the report")
    outputs = {one.candidate.name: one.outputs for one in validated if one.outputs is not None}
    result = write_output(context, result, samples, outputs.get(chosen))
    result = replace(result, elapsed_s=context.clock.elapsed_s, reused=context.store.hits)
    (output / "result.json").write_bytes(dump_json(result))
    return result


def _guess(context: RunContext, count: int) -> None:
    """First guesses in seconds, for `count` candidates on a small machine; they are corrected while it runs."""
    search = context.recipe.search
    process_s = _PROCESS_S + search.warmup_s + search.duration_s
    context.clock.expect(
        samples=1, export=12, verify=2, calibrate=4, compile=1.5 * count, validate=1.5 * count, bundle=3
    )
    context.clock.expect(screen=search.screening_rounds * count * process_s, confirm=search.rounds * 2.5 * process_s)
    context.clock.expect(roofline=6)


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


def _arm(one: Validated) -> Arm | None:
    artifact = one.candidate.artifact
    if one.candidate.refusal is not None or artifact is None or one.outputs is None:
        return None
    return Arm(name=one.candidate.name, artifact=artifact, batch=one.candidate.execution.batch, reference=one.outputs)


def _with_batch_of(model: OnnxModel, samples: PreparedSamples, context: RunContext) -> PreparedSamples:
    """What one timed call takes is as many samples as the model's fixed batch."""
    if model.fixed_batch is None:
        return samples
    single = write_first_batch(samples.feeds, model.fixed_batch, context.scratch / "single.npz")
    return replace(samples, single=single)


def _screen(
    context: RunContext, validated: Sequence[Validated], samples: PreparedSamples, model: OnnxModel
) -> tuple[list[Candidate], Timed, tuple[str, ...]]:
    """Every candidate that can run, timed side by side; then each against the device's peak and the best float.

    Returns:
        The candidates, the traces, and why some have no roofline, a sentence each.

    """
    arms = [arm for arm in map(_arm, validated) if arm is not None]
    timed = Timed(measurements={}, errors={})
    if arms:
        timed = time_arms(context, arms, samples.single, stage="screen", rounds=context.recipe.search.screening_rounds)
    candidates = [with_latency(one.candidate, timed, context.recipe.budget.latency_quantile) for one in validated]
    candidates, notes = run_rooflines(context, candidates, model, samples.single)
    best = best_float(candidates)
    against: Mapping[str, Comparison] = {}
    if best is not None:
        against = compare_arms(timed, best.name, [candidate.name for candidate in candidates])
    return [replace(one, against_float=against.get(one.name)) for one in candidates], timed, notes


@dataclass(frozen=True, kw_only=True)
class _Confirmation:
    """What was measured again.

    Attributes:
        against: Per challenger, its comparison with each rival float.
        measurements: By arm.
        unusable: Per challenger whose measurements must not be used, why.

    """

    against: Mapping[str, Mapping[str, Comparison]]
    measurements: Mapping[str, Measurement]
    unusable: Mapping[str, str]


def _confirm(
    context: RunContext, candidates: list[Candidate], validated: Sequence[Validated], samples: PreparedSamples
) -> tuple[list[Candidate], _Confirmation]:
    """Measures the leading challengers again, in fresh processes beside the floats that they must beat."""
    best = best_float(candidates)
    found = _Confirmation(against={}, measurements={}, unusable={})
    if best is None:
        return candidates, found
    arms = {one.candidate.name: arm for one in validated if (arm := _arm(one)) is not None}
    judged = [judge(candidate, context.recipe.budget) for candidate in candidates]
    leading = challengers(judged, best)
    # Measured afresh, so that having been the best of many in the screening is no advantage here.
    for number, (challenger, alpha) in enumerate(zip(leading, _CONFIRMATIONS, strict=False)):
        floats = [one.name for one in rivals(candidates)]
        stage = "confirm" if number == 0 else f"confirm {number + 1}"
        wanted = [arms[name] for name in (challenger.name, *floats)]
        least = _least_rounds(alpha)
        rounds = max(context.recipe.search.rounds, least)
        timed = time_arms(context, wanted, samples.single, stage=stage, rounds=rounds, replaced=True, least=least)
        against = {
            name: comparison
            for name in floats
            for comparison in compare_arms(timed, name, [challenger.name], confidence=1 - alpha).values()
        }
        found = _Confirmation(
            against={**found.against, challenger.name: against},
            measurements={**found.measurements, **timed.measurements},
            unusable={**found.unusable, **_unusable(challenger.name, timed)},
        )
        candidates = [
            with_latency(one, timed, context.recipe.budget.latency_quantile) if one.name in timed.errors else one
            for one in candidates
        ]
        if gains(against):
            break
    context.clock.expected_s.pop("confirm", None)
    return candidates, found


def _least_rounds(alpha: float) -> int:
    """Rounds without which no interval of this confidence is finite, however clear the gain."""
    return next(count for count in itertools.count(1) if least_p_value(count) <= alpha)


def _unusable(challenger: str, timed: Timed) -> dict[str, str]:
    """The flags for which a confirmation must not be used, if any, with the arms that have them."""
    from edgeport.devices.latency.integrity import measurement_flags, outcome_of

    found = {
        name: [flag for flag in measurement_flags(one) if outcome_of([flag]) is Outcome.INVALID]
        for name, one in timed.measurements.items()
    }
    words = "; ".join(f"{', '.join(flags)} ({name})" for name, flags in found.items() if flags)
    return {challenger: words} if words else {}


def _outcome(candidates: Sequence[Candidate], chosen: str) -> Outcome:
    """PASS where something ships; else INVALID or INCONCLUSIVE where more evidence could change that, else FAIL."""
    if chosen:
        return Outcome.PASS
    outcomes = {candidate.outcome for candidate in candidates if not is_yardstick(candidate)}
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
