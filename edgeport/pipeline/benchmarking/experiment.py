"""Candidates timed side by side, round by round; a round that is done is never measured again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import (
    Artifact,
    Candidate,
    Comparison,
    Device,
    DeviceFacts,
    Job,
    Measurement,
    OnProgress,
    Outcome,
    ProcessTrace,
    ProgressEvent,
    Throughput,
    TimeJob,
    digest_file,
    digest_json,
    dump_json,
    load_json,
)
from edgeport.errors import MeasurementError, error_from_dict
from edgeport.pipeline.compilation.candidates import refused
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.input_tracking import session_state
from edgeport.pipeline.selection.constraints import BoundAim
from edgeport.recipe.bounds import Bound, BoundKind
from edgeport.store import Store

if TYPE_CHECKING:
    from edgeport.devices.experiment import Round
    from edgeport.devices.sequential_stopping import CriterionSet, StoppingCriterion
    from edgeport.pipeline.benchmarking.artifact import BenchSettings, Opened

__all__ = [
    "DEFAULT_TIME_S",
    "Arm",
    "Certainty",
    "StoredRounds",
    "Taken",
    "Timed",
    "aims_of",
    "certainty",
    "compare_arms",
    "measure",
    "time_arms",
    "with_latency",
    "with_throughput",
]

QUANTILES = (0.5, 0.9, 0.99)

DEFAULT_TIME_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One artifact in an experiment.

    Attributes:
        name: Of the candidate.
        artifact: What is run.
        batch: Samples per call.
        reference: `.npz` of which the timed calls must give rows.
        reference_row: Index of the first of these.
        scenario, streams: See `TimeJob`.

    """

    name: str
    artifact: Artifact
    batch: int
    reference: Path
    reference_row: int = 0
    scenario: str = "single-stream"
    streams: int = 1


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What an experiment gave.

    Attributes:
        measurements: By arm, of those that gave any trace.
        errors: `EdgeportError.to_dict` by arm, of those that failed.

    """

    measurements: Mapping[str, Measurement]
    errors: Mapping[str, Mapping[str, object]]


def time_arms(  # noqa: PLR0913 (an experiment has these choices)
    context: RunContext,
    arms: Sequence[Arm],
    feeds: Path,
    *,
    stage: str,
    rounds: int,
    replaced: bool = False,
    least: int = 6,
) -> Timed:
    """Runs every arm once per round, each time in a fresh process, in random order.

    Rounds in which somebody else disturbed the machine are left out, of all arms, where enough others remain. An arm
    that fails, or of which something else ran than what was built, is out of the rounds after: these are stored as
    rounds of the others, and the round in which it failed is measured again in the next run.

    Args:
        context: Of the run.
        arms: At least one.
        feeds: `.npz` with the samples that are bound.
        stage: Name in progress and in the store; each stage has an order of its own.
        rounds: Processes per arm.
        replaced: Measure another round for each disturbed one, up to half as many again.
        least: Rounds without which nothing could be told; no disturbed one is left out below them.

    """
    from edgeport.devices.experiment import run_rounds, to_measurements
    from edgeport.devices.latency.interference import disturbed_rounds, without_disturbed

    seed = context.recipe.search.seed + sum(stage.encode())
    jobs = {arm.name: _job(context, arm, feeds) for arm in arms}
    stored = StoredRounds(store=context.store, experiment=_experiment(context, arms, feeds, stage, seed))
    most = rounds + rounds // 2 if replaced else rounds

    def more(finished: Sequence[Round]) -> bool:
        disturbed = disturbed_rounds(to_measurements(finished, device=context.facts.digest))
        return len(finished) < min(most, rounds + len(disturbed))

    context.clock.step(stage, f"{len(arms)} candidates", done=0, total=rounds * len(arms))
    all_rounds = run_rounds(
        _SameArtifacts(device=context.device, digests={_place(jobs[arm.name]): arm.artifact.digest for arm in arms}),
        jobs,
        rounds=rounds,
        seed=seed,
        find=stored.find,
        more=more,
        on_round=stored.keep,
        on_progress=context.clock.inside(stage),
    )
    errors = {name: error for one in all_rounds for name, error in one.errors.items()}
    measured = to_measurements(all_rounds, device=context.facts.digest)
    return Timed(measurements=without_disturbed(measured, least=least), errors=errors)


def _experiment(context: RunContext, arms: Sequence[Arm], feeds: Path, stage: str, seed: int) -> dict[str, object]:
    """Key of an experiment: everything that its traces depend on."""
    search = context.recipe.search
    return {
        "arms": {
            arm.name: [
                arm.artifact.digest,
                arm.batch,
                digest_file(arm.reference),
                arm.reference_row,
                arm.scenario,
                arm.streams,
            ]
            for arm in arms
        },
        "sessions": {arm.name: session_state(arm.artifact.session) for arm in arms},
        "feeds": digest_file(feeds),
        "stage": stage,
        "seed": seed,
        "duration_s": search.duration_s,
        "warmup_s": search.warmup_s,
        "cool_down_s": search.cool_down_s,
        "device": context.facts.digest,
    }


@dataclass(kw_only=True)
class StoredRounds:
    """The rounds of an experiment in the store, each known by its index and the arms that were left."""

    store: Store
    experiment: Mapping[str, object]
    _key: dict[str, object] = field(default_factory=dict)

    def find(self, index: int, jobs: Mapping[str, TimeJob]) -> Round | None:
        """The round of these arms; readings of several calls can't be put together with others (see `run_rounds`)."""
        from edgeport.devices.experiment import Round

        left = {name: job.calls_per_reading for name, job in jobs.items()}
        self._key = {**self.experiment, "index": index, "left": left}
        folder = self.store.find("round", self._key)
        if folder is None:
            return None
        self.store.hits += 1  # found, not asked for: `get_or_build` has not counted it
        return load_json(Round, (folder / "round.json").read_bytes())

    def keep(self, one: Round) -> None:
        """Stores the round that was asked for last; one with an error is not kept: it may not happen again."""
        if one.errors or not one.traces:
            return

        def build(folder: Path) -> None:
            (folder / "round.json").write_bytes(dump_json(one))

        self.store.get_or_build("round", self._key, build)


@dataclass(frozen=True, kw_only=True)
class _SameArtifacts:
    """A device on which a job fails that ran something else than what was built.

    Attributes:
        device: The device itself.
        digests: Of the artifacts as they were built, by `_place` of their jobs.

    """

    device: Device
    digests: Mapping[str, str]

    def facts(self) -> DeviceFacts:
        """See `Device`."""
        return self.device.facts()

    def push(self, path: Path) -> str:
        """See `Device`."""
        return self.device.push(path)

    def reserve(self, name: str) -> str:
        """See `Device`."""
        return self.device.reserve(name)

    def pull(self, path: str, into: Path) -> None:
        """See `Device`."""
        self.device.pull(path, into)

    def discard(self, path: str) -> None:
        """See `Device`."""
        self.device.discard(path)

    def close(self) -> None:
        """See `Device`."""
        self.device.close()

    def run(self, job: Job) -> ProcessTrace:
        """See `Device`.

        Raises:
            MeasurementError: What ran is not what was built.

        """
        trace = self.device.run(job)
        built = self.digests[_place(job)]
        if trace.artifact_digest != built:
            raise MeasurementError(
                asked=f"time the artifact of digest {built[:12]}",
                found=f"that {trace.artifact_digest[:12]} ran: what ran is not what was built",
                fix="run it again; its files changed after it was compiled",
            )
        return trace


def _place(job: Job) -> str:
    """Names what a job opens."""
    return f"{job.artifact} {digest_json(job.settings)}"


def _job(context: RunContext, arm: Arm, feeds: Path) -> TimeJob:
    search = context.recipe.search
    return TimeJob(
        artifact=context.device.push(arm.artifact.folder),
        entry=arm.artifact.entry,
        session=arm.artifact.session,
        settings=arm.artifact.settings,
        feeds=context.device.push(feeds),
        reference=context.device.push(arm.reference),
        reference_row=arm.reference_row,
        batch=arm.batch,
        state=context.recipe.state,
        scenario=arm.scenario,
        streams=arm.streams,
        warmup_s=search.warmup_s,
        duration_s=search.duration_s,
        cool_down_s=search.cool_down_s,
        limits=replace(context.limits, time_s=context.limits.time_s + search.cool_down_s),
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


def with_throughput(candidate: Candidate, timed: Timed, streams: int) -> Candidate:
    """The candidate with its samples per second, or with the refusal of the process that failed."""
    from edgeport.devices.latency.summary import throughput_per_s
    from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

    if candidate.name in timed.errors:
        return refused(candidate, error_from_dict(timed.errors[candidate.name]))
    measurement = timed.measurements.get(candidate.name)
    if measurement is None:
        return candidate
    flags = tuple(flag for flag in measurement_flags(measurement) if outcome_of([flag]) is not Outcome.PASS)
    found = Throughput(
        per_s=throughput_per_s(measurement),
        streams=streams,
        processes=len(measurement.traces),
        flags=flags,
        outcome=outcome_of(flags),
    )
    return replace(candidate, throughput=found)


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


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was measured.

    Attributes:
        raw: All traces, by arm.
        measured: Without the rounds in which somebody else disturbed the machine.
        looks: How often the data was looked at before this was the last look.
        seconds: That measuring took.
        missing: What was still not known when the time was up, a sentence each.
        looked: The number of rounds was not fixed before.

    """

    raw: Mapping[str, Measurement]
    measured: Mapping[str, Measurement]
    looks: int
    seconds: float
    missing: tuple[str, ...]
    looked: bool


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """How sure the number is that was measured for, and why no more was measured.

    Attributes:
        of: What it is of ("p50", "speedup").
        half_width: Of its 95 % interval over its estimate; None where there is no interval.
        wanted: That was asked for; None where none was.
        seconds, processes: That it took, per arm.
        stopped: Why no more was measured, where less is known than was asked.

    """

    of: str
    half_width: float | None
    wanted: float | None
    seconds: float
    processes: int
    stopped: str = ""

    def __str__(self) -> str:
        """As a person says it: "p50 is known to +-0.8 % after 23 s, 14 processes"."""
        after = f"after {self.seconds:.0f} s, {self.processes} process{'es' if self.processes > 1 else ''}"
        known = f"is known to ±{100 * self.half_width:.2g} %" if self.half_width is not None else "is not known"
        return f"{self.of} {known} {after}" + (f"; {self.stopped}" if self.stopped else "")


def aims_of(bounds: Sequence[Bound], settings: BenchSettings, *, beside: bool) -> list[StoppingCriterion]:
    """One per line of the budget that measuring can decide, and one for the precision, where nothing else has it."""
    from edgeport.devices.sequential_stopping import Goal, QuantilePrecision, SpeedupPrecision, ThroughputPrecision

    aims: list[StoppingCriterion] = []
    for bound in bounds:
        if bound.kind is BoundKind.LATENCY:
            aims.append(QuantilePrecision("artifact", Goal(q=bound.q, limit_ns=bound.limit, until=settings.until)))
        elif bound.kind in (BoundKind.THROUGHPUT, BoundKind.FIRST_INFERENCE):
            aims.append(BoundAim(bound=bound, arm="artifact"))
    if settings.until is not None and settings.scenario == "offline":
        aims.append(ThroughputPrecision("artifact", until=settings.until))
    elif settings.until is not None and not any(bound.kind is BoundKind.LATENCY for bound in bounds):
        aims.append(QuantilePrecision("artifact", Goal(until=settings.until)))
    if beside and (aims or settings.until is not None):
        aims.append(SpeedupPrecision("against", "artifact"))
    return aims


def measure(
    device: Device,
    jobs: Mapping[str, TimeJob],
    opened: Mapping[str, Opened],
    aims: Sequence[StoppingCriterion],
    settings: BenchSettings,
    on_progress: OnProgress,
) -> Taken:
    """Runs each arm once per round, in random order, until the rounds are done or the aims are reached.

    Args:
        device: Where.
        jobs: By arm.
        opened: By arm; what the jobs run.
        aims: What is to be known; without any, and without a time, the settings' rounds are run.
        settings: Rounds, precision and time.
        on_progress: Told before each process.

    Raises:
        EdgeportError: What became of an arm that failed, at once.
        MeasurementError: What ran is not what was opened.

    """
    from edgeport.devices.experiment import run_rounds, to_measurements
    from edgeport.devices.latency.interference import without_disturbed
    from edgeport.devices.sequential_stopping import CriterionSet

    def failed(one: Round) -> None:
        for arm, record in one.errors.items():
            error = error_from_dict(record)
            error.add_note(f"while timing {opened[arm].name}")
            raise error

    timed = bool(aims) or settings.time_s is not None
    limit_s = settings.time_s if settings.time_s is not None else DEFAULT_TIME_S
    together = CriterionSet(aims, arms=tuple(jobs), rounds=settings.rounds, time_s=limit_s) if timed else None
    started_s = time.monotonic()
    done = run_rounds(
        device,
        jobs,
        rounds=1 if together is not None else settings.rounds,
        more=together if together is not None else lambda _: False,
        on_round=failed,
        on_progress=_with_time_left(on_progress, together, started_s),
    )
    raw = to_measurements(done, device=device.facts().digest)
    for arm, one in opened.items():
        if raw[arm].artifact_digest != one.artifact.digest:
            raise MeasurementError(
                asked=f"time {one.name}, digest {one.artifact.digest[:12]}",
                found=f"that {raw[arm].artifact_digest[:12]} ran",
                fix="measure again; its files changed after they were checked",
            )
    return Taken(
        raw=raw,
        measured=without_disturbed(raw),
        looks=max(1, together.looks) if together is not None else 1,
        seconds=time.monotonic() - started_s,
        missing=together.missing if together is not None else (),
        looked=bool(aims),
    )


def certainty(taken: Taken, *, of: str, half_width: float | None, wanted: float | None, processes: int) -> Certainty:
    """How sure, and why measuring ended where that is less than was asked."""
    stopped = ""
    if taken.missing:
        stopped = f"the time was up: {taken.missing[0]}"
    return Certainty(
        of=of,
        half_width=half_width if half_width is not None and half_width < float("inf") else None,
        wanted=wanted,
        seconds=taken.seconds,
        processes=processes,
        stopped=stopped,
    )


def _with_time_left(on_progress: OnProgress, together: CriterionSet | None, started_s: float) -> OnProgress:
    """Events with the time left: at most so long where measuring may end before; else by the steps so far."""

    def tell(event: ProgressEvent) -> None:
        if together is None:
            spent = time.monotonic() - started_s
            left = spent * (event.total - event.done) / event.done if event.done else None
            on_progress(replace(event, time_left_s=left))
            return
        message = event.message.partition(" of ")[0]
        if together.missing:
            message += f"; {together.missing[0]}"
        on_progress(ProgressEvent(stage=event.stage, message=message, time_left_s=together.left_s))

    return tell
