"""Two artifacts timed in turn, pair by pair: whether the new one is faster, slower, or the same."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import (
    Change,
    Comparison,
    DeviceFacts,
    LatencySummary,
    Measurement,
    OnProgress,
    Outcome,
    silent,
)
from edgeport.errors import UsageError
from edgeport.pipeline.benchmarking.bench import open_all
from edgeport.pipeline.benchmarking.experiment import Certainty, certainty, measure
from edgeport.pipeline.selection.constraints import Check, check_rows, judge_pairs
from edgeport.report.ci import CheckRow

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.artifact import BenchSettings, Opened

__all__ = ["CompareResult", "Compared", "compare_artifacts", "median_of"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One of the two.

    Attributes:
        name, backend, precision: What it is.
        batch: Samples per call.
        size_bytes: Of its files.
        summary: How long it takes.
        measurement: The raw traces.

    """

    name: str
    backend: str
    precision: str
    batch: int
    size_bytes: int
    summary: LatencySummary
    measurement: Measurement = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """The new artifact against the old one.

    Attributes:
        old, new: Both.
        comparison: Of the new one with the old one, paired by round.
        check: The verdict.
        certainty: How sure the speedup is.
        device: Where.
        outcome: PASS where it is not slower; FAIL where it is; INCONCLUSIVE where that is not known; INVALID where the
            numbers must not be used.
        reason: In a sentence, where it is not PASS.

    """

    old: Compared
    new: Compared
    comparison: Comparison
    check: Check
    certainty: Certainty
    device: DeviceFacts
    outcome: Outcome
    reason: str = ""
    schema_version: int = 1

    def rows(self) -> list[CheckRow]:
        """The check as a build server takes it."""
        return check_rows(self.new.name, [self.check], self.certainty.seconds)


def compare_artifacts(
    old: Path,
    new: Path,
    settings: BenchSettings,
    *,
    delta: float | None = None,
    fail_on: Change = Change.SLOWER,
    on_progress: OnProgress = silent,
) -> CompareResult:
    """See `edgeport.api.compare`."""
    from edgeport.devices.latency.comparison import compare
    from edgeport.devices.latency.summary import summarise
    from edgeport.devices.latency.verdict import alpha_at
    from edgeport.devices.opening import open_device
    from edgeport.devices.sequential_stopping import SpeedupPrecision, half_width

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-compare-")))
        device = stack.enter_context(open_device(settings.device, scratch / "device"))
        opened, jobs = open_all({"old": old, "new": new}, settings, scratch, device, on_progress)
        looks = settings.until is not None or settings.time_s is not None
        aims = [SpeedupPrecision("old", "new", delta=delta, until=settings.until)] if looks else []
        taken = measure(device, jobs, opened, aims, settings, on_progress)
        facts = device.facts()
    confidence = 1 - alpha_at(taken.looks) if taken.looked else 0.95
    measured = taken.measured
    comparison = compare(measured["old"], measured["new"], delta=delta, confidence=confidence)
    both = {arm: _compared(one, summarise(measured[arm], (0.5, 0.9)), taken.raw[arm]) for arm, one in opened.items()}
    check = _judged(comparison, both["old"], both["new"], fail_on)
    return CompareResult(
        old=both["old"],
        new=both["new"],
        comparison=comparison,
        check=check,
        certainty=certainty(
            taken,
            of="the speedup",
            half_width=half_width(comparison.speedup),
            wanted=settings.until,
            processes=both["new"].summary.processes,
        ),
        device=facts,
        outcome=check.outcome,
        reason="" if check.outcome is Outcome.PASS else check.reason,
    )


def _compared(one: Opened, summary: LatencySummary, raw: Measurement) -> Compared:
    return Compared(
        name=one.name,
        backend=one.artifact.backend,
        precision=str(one.artifact.precision),
        batch=one.batch,
        size_bytes=one.artifact.size_bytes,
        summary=summary,
        measurement=raw,
    )


def median_of(path: Path, settings: BenchSettings, on_progress: OnProgress = silent) -> float:
    """Median in ns of an artifact, from pairs of it with itself.

    Raises:
        UsageError: Too few calls to tell.

    """
    from edgeport.devices.latency.summary import summarise

    compared = compare_artifacts(path, path, settings, on_progress=on_progress)
    interval = summarise(compared.new.measurement).quantiles[0].interval_ns
    if interval is None:
        raise UsageError(
            asked=f"measure the latency of {path.name}",
            found="too few calls",
            fix="measure longer: more rounds, or a longer duration",
        )
    return interval.estimate


def _judged(comparison: Comparison, old: Compared, new: Compared, fail_on: Change) -> Check:
    """The change, unless a flag forbids it.

    Pairs see a busy machine on both sides, so a difference that they show is there. That there is none can't be told
    so: the busier the machine, the larger is what it calls no difference.
    """
    from dataclasses import replace

    from edgeport.devices.latency.validity_flags import outcome_of

    check = judge_pairs(comparison, old.name, fail_on=fail_on)
    flags = sorted({*old.summary.flags, *new.summary.flags})
    worst = outcome_of(flags)
    grave = ", ".join(flag for flag in flags if outcome_of([flag]) is worst)
    if worst is Outcome.INVALID:
        return replace(check, outcome=Outcome.INVALID, reason=f"flags forbid the use of the numbers: {grave}")
    if worst is Outcome.INCONCLUSIVE and comparison.change is Change.EQUIVALENT:
        return replace(check, outcome=Outcome.INCONCLUSIVE, reason=f"on a disturbed machine nothing is equal: {grave}")
    return check
