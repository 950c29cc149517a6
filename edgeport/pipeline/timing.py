"""Candidates timed side by side, round by round; a round that is done is never measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import Artifact, Candidate, Comparison, Measurement, TimeJob, digest_file, dump_json, load_json
from edgeport.errors import error_from_dict
from edgeport.pipeline.building import refused
from edgeport.pipeline.context import RunContext
from edgeport.pipeline.dependencies import session_state

if TYPE_CHECKING:
    from edgeport.devices.experiment import Round

__all__ = ["Arm", "Timed", "compare_arms", "time_arms", "with_latency"]

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One artifact in an experiment.

    Attributes:
        name: Of the candidate.
        artifact: What is run.
        batch: Samples per call.
        reference: `.npz` whose first rows the timed calls must give.

    """

    name: str
    artifact: Artifact
    batch: int
    reference: Path


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What an experiment gave.

    Attributes:
        measurements: By arm, of those that gave any trace.
        errors: `EdgeportError.to_dict` by arm, of those that failed.

    """

    measurements: Mapping[str, Measurement]
    errors: Mapping[str, Mapping[str, object]]


def time_arms(
    context: RunContext, arms: Sequence[Arm], feeds: Path, *, stage: str, rounds: int, replaced: bool = False
) -> Timed:
    """Runs every arm once per round, each time in a fresh process, in random order.

    Rounds in which somebody else disturbed the machine are left out, of all arms, where enough others remain.

    Args:
        context: Of the run.
        arms: At least one.
        feeds: `.npz` with the samples that are bound.
        stage: Name in progress and in the store; each stage has an order of its own.
        rounds: Processes per arm.
        replaced: Measure another round for each disturbed one, up to half as many again.

    """
    from edgeport.devices.experiment import Round, run_rounds, to_measurements
    from edgeport.devices.latency.neighbours import disturbed_rounds, without_disturbed

    seed = context.recipe.search.seed + sum(stage.encode())
    jobs = {arm.name: _job(context, arm, feeds) for arm in arms}
    fed, references = digest_file(feeds), {arm.name: digest_file(arm.reference) for arm in arms}
    sessions = {arm.name: session_state(arm.artifact.session) for arm in arms}

    def key(index: int) -> dict[str, object]:
        search = context.recipe.search
        return {
            "arms": {arm.name: [arm.artifact.digest, arm.batch, references[arm.name]] for arm in arms},
            "sessions": sessions,
            "feeds": fed,
            "stage": stage,
            "seed": seed,
            "index": index,
            "duration_s": search.duration_s,
            "warmup_s": search.warmup_s,
            "device": context.facts.digest,
        }

    most = rounds + rounds // 2 if replaced else rounds
    found = [context.store.find("round", key(index)) for index in range(most)]
    done = [load_json(Round, (folder / "round.json").read_bytes()) for folder in found if folder is not None]
    context.store.hits += len(done)  # found, not asked for: `get_or_build` has not counted them

    def keep(one: Round) -> None:
        if one.traces.keys() != jobs.keys():
            return  # what failed may not fail again: only whole rounds are kept

        def build(folder: Path) -> None:
            (folder / "round.json").write_bytes(dump_json(one))

        context.store.get_or_build("round", key(one.index), build)

    def more(finished: Sequence[Round]) -> bool:
        disturbed = disturbed_rounds(to_measurements(finished, device=context.facts.digest))
        return len(finished) < min(most, rounds + len(disturbed))

    context.clock.step(stage, f"{len(arms)} candidates", done=0, total=rounds * len(arms))
    all_rounds = run_rounds(
        context.device,
        jobs,
        rounds=rounds,
        seed=seed,
        done=done,
        more=more,
        on_round=keep,
        on_progress=context.clock.inside(stage),
    )
    errors = {name: error for one in all_rounds for name, error in one.errors.items()}
    measured = to_measurements(all_rounds, device=context.facts.digest)
    return Timed(measurements=without_disturbed(measured), errors=errors)


def _job(context: RunContext, arm: Arm, feeds: Path) -> TimeJob:
    search = context.recipe.search
    return TimeJob(
        artifact=context.device.push(arm.artifact.folder),
        entry=arm.artifact.entry,
        session=arm.artifact.session,
        settings=arm.artifact.settings,
        feeds=context.device.push(feeds),
        reference=context.device.push(arm.reference),
        batch=arm.batch,
        warmup_s=search.warmup_s,
        duration_s=search.duration_s,
        limits=context.limits,
    )


def with_latency(candidate: Candidate, timed: Timed, quantile: float) -> Candidate:
    """The candidate with its latency (p50, p90, p99 and `quantile`), or with the refusal of the process that failed."""
    from edgeport.devices.latency.summary import summarise

    if candidate.name in timed.errors:
        return refused(candidate, error_from_dict(timed.errors[candidate.name]))
    measurement = timed.measurements.get(candidate.name)
    if measurement is None:
        return candidate
    return replace(candidate, latency=summarise(measurement, sorted({*QUANTILES, quantile})))


def compare_arms(timed: Timed, base: str, names: Sequence[str], *, confidence: float = 0.95) -> dict[str, Comparison]:
    """Each of `names` against `base`, paired by round; arms without traces are left out."""
    from edgeport.devices.latency.comparison import compare

    before = timed.measurements.get(base)
    if before is None:
        return {}
    return {
        name: replace(compare(before, timed.measurements[name], confidence=confidence), against=base)
        for name in names
        if name in timed.measurements and name != base and name not in timed.errors
    }
