"""Runs an experiment of one or two artifacts: for so many rounds, or until enough is known and there is time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeport.contracts import Device, Measurement, OnProgress, ProgressEvent, TimeJob
from edgeport.errors import MeasurementError, error_from_dict
from edgeport.pipeline.bench_judging import BoundAim
from edgeport.recipe.bounds import Bound, BoundKind

if TYPE_CHECKING:
    from edgeport.devices.experiment import Round
    from edgeport.devices.sequential_stopping import CriterionSet, StoppingCriterion
    from edgeport.pipeline.bench_opening import BenchSettings, Opened

__all__ = ["Certainty", "Taken", "aims_of", "certainty", "measure"]

DEFAULT_TIME_S = 60.0


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
