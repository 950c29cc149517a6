"""One artifact timed, alone or beside another one, and held to a budget."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts import (
    Comparison,
    Device,
    DeviceFacts,
    LatencySummary,
    Measurement,
    OnProgress,
    Outcome,
    ProgressEvent,
    TimeJob,
    TimesOnly,
    silent,
)
from edgeport.errors import UsageError
from edgeport.pipeline.benchmarking.artifact import BenchSettings, Opened, open_artifact, time_job
from edgeport.pipeline.benchmarking.baseline import Baseline, judge_kept, keep, load_baseline
from edgeport.pipeline.benchmarking.experiment import Certainty, Taken, aims_of, certainty, measure
from edgeport.pipeline.benchmarking.peaks import Place
from edgeport.pipeline.benchmarking.roofline import bench_roofline
from edgeport.pipeline.compilation.placement import judge_placement
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.selection.constraints import (
    Check,
    believed,
    check_rows,
    judge_bound,
    judge_pairs,
    judge_rate,
    overall,
)
from edgeport.recipe.bounds import Bound, BoundKind
from edgeport.report.ci import CheckRow
from edgeport.store import Store

__all__ = ["Asked", "BenchResult", "BenchSettings", "bench_artifact", "open_all", "parse_bounds"]

_QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an artifact is held to.

    Attributes:
        bounds: Lines of a budget.
        against: Another artifact, timed in turn with it.
        baseline: A kept measurement.
        save_baseline: Where this one is kept.
        least_placement: Part of its planned nodes that must run as planned, 0..1.

    """

    bounds: tuple[Bound, ...] = ()
    against: Path | None = None
    baseline: Path | None = None
    save_baseline: Path | None = None
    least_placement: float | None = None

    def __post_init__(self) -> None:
        named = [(bound.kind, bound.q) for bound in self.bounds]
        twice = next((bound for bound in self.bounds if named.count((bound.kind, bound.q)) > 1), None)
        if twice is not None:
            raise UsageError(
                asked=f"keep to {', '.join(map(str, self.bounds))}",
                found="two limits for the same",
                fix="give each quantity one limit",
            )


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """How long an artifact takes.

    Attributes:
        name: Of what was timed.
        backend, precision: That it was built for.
        batch: Samples per call; every latency is per call.
        streams, rate_per_s: Of the scenario.
        checks: The verdict on each thing that was asked, with its evidence.
        certainty: How sure the number is that was measured for.
        summary: Quantiles with intervals, loads, first inference, memory, throughput, energy.
        comparison: Against the other artifact, paired by round; None where none was given.
        baseline: Summary of that other artifact.
        against_kept: Against the kept measurement; None where none was given.
        device: Where.
        outcome: The worst of the checks; without any, PASS where the numbers may be believed.
        reason: In a sentence, where it is not PASS.
        size_bytes: Of the artifact's files.
        compile_ns: See `Artifact`.
        notes: What else a reader must know, one sentence each.
        missing: Sources that the device has not, each with what is not known without it.
        measurement: The raw traces, of every round.

    """

    name: str
    backend: str = ""
    precision: str = ""
    batch: int = 1
    streams: int = 1
    rate_per_s: float | None = None
    checks: tuple[Check, ...] = ()
    certainty: Certainty | None = None
    summary: LatencySummary
    comparison: Comparison | None = None
    baseline: LatencySummary | None = None
    against_kept: Comparison | None = None
    device: DeviceFacts
    outcome: Outcome
    reason: str = ""
    size_bytes: int = 0
    compile_ns: int | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    measurement: Measurement = field(repr=False)
    schema_version: int = 1

    def rows(self) -> list[CheckRow]:
        """The checks as a build server takes them."""
        return check_rows(self.name, self.checks, self.certainty.seconds if self.certainty is not None else 0.0)


def bench_artifact(
    path: Path, settings: BenchSettings, asked: Asked, *, on_progress: OnProgress = silent
) -> BenchResult:
    """See `edgeport.api.bench`."""
    from edgeport.devices.opening import open_device

    kept = load_baseline(asked.baseline) if asked.baseline is not None else None
    if asked.save_baseline is not None:
        require_writable(asked.save_baseline)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-bench-")))
        device = stack.enter_context(open_device(settings.device, scratch / "device"))
        paths = {"artifact": path} | ({"against": asked.against} if asked.against is not None else {})
        opened, jobs = open_all(paths, settings, scratch, device, on_progress)
        taken = measure(
            device,
            jobs,
            opened,
            aims_of(asked.bounds, settings, beside=asked.against is not None),
            settings,
            on_progress,
        )
        place = Place(store=Store(), device=device, facts=device.facts(), scratch=scratch, limits=settings.limits)
        summary = _summary(taken, asked)
        only_times = device.only_times if isinstance(device, TimesOnly) else ""
        if settings.scenario == "single-stream" and not only_times:
            on_progress(ProgressEvent(stage="roofline", message="what this device can do at its best"))
            one = opened["artifact"]
            feeds = Path(jobs["artifact"].feeds)
            summary = bench_roofline(place, summary, one.artifact, path=path, placement=one.placement, feeds=feeds)
        return _result(
            opened=opened,
            jobs=jobs,
            taken=taken,
            summary=summary,
            asked=asked,
            settings=settings,
            facts=device.facts(),
            kept=kept,
            notes=[only_times] if only_times else [],
        )


def open_all(
    paths: Mapping[str, Path], settings: BenchSettings, scratch: Path, device: Device, on_progress: OnProgress
) -> tuple[dict[str, Opened], dict[str, TimeJob]]:
    """Each arm opened, and its job."""
    opened, jobs = {}, {}
    for arm, path in paths.items():
        on_progress(ProgressEvent(stage="open", message=path.name))
        opened[arm] = open_artifact(path, settings, scratch / arm)
        jobs[arm] = time_job(opened[arm], settings, scratch / f"{arm}-feeds", device)
    return opened, jobs


def _summary(taken: Taken, asked: Asked) -> LatencySummary:
    from edgeport.devices.latency.summary import summarise

    asked_for = {bound.q for bound in asked.bounds if bound.kind is BoundKind.LATENCY}
    return summarise(taken.measured["artifact"], sorted({*_QUANTILES, *asked_for}))


def _result(  # noqa: PLR0913 (what a result is made of)
    *,
    opened: Mapping[str, Opened],
    jobs: Mapping[str, TimeJob],
    taken: Taken,
    summary: LatencySummary,
    asked: Asked,
    settings: BenchSettings,
    facts: DeviceFacts,
    kept: Baseline | None,
    notes: list[str],
) -> BenchResult:
    from edgeport.devices.agent.probing import missing_sources
    from edgeport.devices.latency.comparison import compare
    from edgeport.devices.latency.summary import summarise
    from edgeport.devices.latency.verdict import alpha_at

    one, job, measured = opened["artifact"], jobs["artifact"], taken.measured
    now = Baseline(
        name=one.name,
        artifact_digest=one.artifact.digest,
        device=facts,
        scenario=job.scenario,
        streams=job.streams,
        rate_per_s=job.rate_per_s,
        batch=job.batch,
        measurement=taken.raw["artifact"],
    )
    checks = _checks(summary, taken, asked, settings, one.artifact.size_bytes)
    comparison = against_kept = None
    if asked.against is not None:
        confidence = 1 - alpha_at(taken.looks) if taken.looked else 0.95
        comparison = compare(measured["against"], measured["artifact"], confidence=confidence)
        checks.append(judge_pairs(comparison, opened["against"].name))
    if kept is not None:
        against_kept, check = judge_kept(kept, now)
        checks.append(check)
    if asked.least_placement is not None:
        checks.append(_placed(one, asked.least_placement))
    outcome, reason = overall(checks)
    if asked.save_baseline is not None:
        notes.append(keep(asked.save_baseline, now, summary))
    return BenchResult(
        name=one.name,
        backend=one.artifact.backend,
        precision=str(one.artifact.precision),
        batch=job.batch,
        streams=job.streams,
        rate_per_s=settings.rate_per_s,
        checks=tuple(checks),
        certainty=_certainty(taken, summary, asked, settings),
        summary=summary,
        comparison=comparison,
        baseline=summarise(measured["against"], _QUANTILES) if asked.against is not None else None,
        against_kept=against_kept,
        device=facts,
        outcome=outcome,
        reason=reason,
        size_bytes=one.artifact.size_bytes,
        compile_ns=one.artifact.compile_ns,
        notes=tuple(notes),
        missing=tuple(missing_sources(facts.sensors)),
        measurement=taken.raw["artifact"],
    )


def _checks(
    summary: LatencySummary, taken: Taken, asked: Asked, settings: BenchSettings, size_bytes: int
) -> list[Check]:
    """Of the budget and the rate; whether the numbers may be used, where there is no budget, or they may not."""
    measurement = taken.measured["artifact"]
    checks = [judge_bound(bound, measurement, size_bytes=size_bytes, look=taken.looks) for bound in asked.bounds]
    if settings.rate_per_s is not None:
        checks.append(judge_rate(measurement, settings.rate_per_s, taken.looks))
    if not asked.bounds or summary.outcome is Outcome.INVALID:
        checks.insert(0, believed(summary))
    return checks


def _placed(opened: Opened, least: float) -> Check:
    outcome, found = judge_placement(opened.placement, least)
    share = opened.placement.as_planned if opened.placement is not None else None
    seen = "unknown" if share is None else f"{share:.1%} of the planned nodes ran as planned"
    return Check(name=f"placement of {least:.4g} as planned", outcome=outcome, found=seen, reason=found)


def _certainty(taken: Taken, summary: LatencySummary, asked: Asked, settings: BenchSettings) -> Certainty:
    from edgeport.devices.sequential_stopping import half_width

    if settings.scenario == "offline":
        of, interval = "throughput", summary.throughput_per_s
    else:
        q = next((bound.q for bound in asked.bounds if bound.kind is BoundKind.LATENCY), 0.5)
        of, interval = f"p{100 * q:g}", summary.quantile(q).interval_ns
    width = half_width(interval) if interval is not None else None
    return certainty(taken, of=of, half_width=width, wanted=settings.until, processes=summary.processes)


def parse_bounds(lines: Sequence[str | Bound]) -> tuple[Bound, ...]:
    """Bounds of a budget, from their text where they are text."""
    from edgeport.recipe.bounds import parse_bound

    return tuple(parse_bound(line) if isinstance(line, str) else line for line in lines)
