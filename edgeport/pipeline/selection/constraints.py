"""What a measurement says of each line of a budget; pure rules over traces, no device and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeport.contracts import BoundVerdict, Budget, Change, Comparison, Interval, LatencySummary, Measurement, Outcome
from edgeport.contracts.recipe import LEAST_ROUNDS
from edgeport.devices.latency.overload import kept_rate
from edgeport.devices.latency.steady_portion import over_processes
from edgeport.devices.latency.summary import throughput_per_s
from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of
from edgeport.devices.latency.verdict import BudgetVerdict, alpha_at, judge_budget
from edgeport.recipe.bounds import Bound, BoundKind, shown
from edgeport.report.ci import CheckRow

__all__ = [
    "BoundAim",
    "Check",
    "believed",
    "check_rows",
    "grave",
    "judge_bound",
    "judge_bounds",
    "judge_pairs",
    "judge_rate",
    "overall",
    "worst",
]

_ORDER = (Outcome.INVALID, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.UNMEASURED, Outcome.PASS)
_OVERLOAD = "overload"
_RESTLESS = frozenset({"slowdown", "cyclic", "no-steady-state", "too-short"})


@dataclass(frozen=True, kw_only=True)
class Check:
    """One verdict and what it rests on.

    Attributes:
        name: What was asked ("p99 at most 20 ms").
        outcome: PASS, FAIL, INCONCLUSIVE or INVALID.
        found: In a few words, with the interval.
        reason: In a sentence.
        interval: Of what is bounded, in its unit; None where it has none.
        evidence: Of a latency: calls, independent calls, calls over the limit, chance, alpha.
        looks: How often the data was looked at, which the interval and alpha allow for.

    """

    name: str
    outcome: Outcome
    found: str
    reason: str = ""
    interval: Interval | None = None
    evidence: BudgetVerdict | None = None
    looks: int = 1


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """INVALID, then FAIL, then INCONCLUSIVE; PASS where all pass."""
    return min(outcomes, key=_ORDER.index, default=Outcome.PASS)


def overall(checks: Sequence[Check]) -> tuple[Outcome, str]:
    """The worst outcome, and the reasons of the checks that have it."""
    outcome = worst(check.outcome for check in checks)
    if outcome is Outcome.PASS:
        return outcome, ""
    named: dict[str, list[str]] = {}
    for check in checks:
        if check.outcome is outcome:
            named.setdefault(check.reason, []).append(check.name)
    return outcome, "; ".join(f"{', '.join(names)}: {reason}" for reason, names in named.items())


def check_rows(name: str, checks: Sequence[Check], seconds: float) -> list[CheckRow]:
    """For a build server, with the evidence as figures; the time stands in the first, since all share it."""
    return [
        CheckRow(
            name=f"{name}: {check.name}",
            outcome=check.outcome,
            found=check.found,
            reason="" if check.outcome is Outcome.PASS else check.reason,
            seconds=0.0 if index else seconds,
            figures=_figures(check),
        )
        for index, check in enumerate(checks)
    ]


def _figures(check: Check) -> dict[str, float | str]:
    figures: dict[str, float | str] = {"looks": check.looks}
    if check.interval is not None:
        interval = check.interval
        figures |= {"low": interval.low, "estimate": interval.estimate, "high": interval.high}
        figures["confidence"] = interval.confidence
    if check.evidence is not None:
        verdict = check.evidence
        figures |= {"calls": verdict.calls, "independent_calls": verdict.effective_calls, "calls_over": verdict.over}
        figures |= {"chance": verdict.chance, "alpha": verdict.alpha}
    return figures


def believed(summary: LatencySummary) -> Check:
    """Whether the numbers may be used at all, where nothing was asked of them."""
    median = summary.quantile(0.5)
    reason = ", ".join(grave(summary)) or median.refused or "processes did not come to rest"
    interval = median.interval_ns
    found = _span(BoundKind.LATENCY, interval) if interval is not None else "no median"
    return Check(
        name="latency",
        outcome=summary.outcome,
        found=found,
        reason="" if summary.outcome is Outcome.PASS else reason,
        interval=interval,
    )


def grave(summary: LatencySummary) -> list[str]:
    """The flags that forced its outcome."""
    return [flag for flag in summary.flags if outcome_of([flag]) is summary.outcome is not Outcome.PASS]


def judge_bounds(
    budget: Budget, measurement: Measurement, *, size_bytes: int, offline: bool = False
) -> tuple[BoundVerdict, ...]:
    """Every bound of a recipe's budget that these traces can decide, as `judge_bound` decides it.

    Args:
        budget: Of the recipe.
        measurement: All traces.
        size_bytes: Of the artifact.
        offline: They are of several calls at once, which decide the throughput alone; else all but the throughput.

    """
    return tuple(
        _as_verdict(of, bound, measurement, size_bytes)
        for of, bound in _bounds(budget).items()
        if (bound.kind is BoundKind.THROUGHPUT) is offline
    )


def _bounds(budget: Budget) -> dict[str, Bound]:
    """By what they bound, in the order in which they refuse."""
    limits: dict[str, tuple[BoundKind, float | None]] = {
        "size": (BoundKind.SIZE, budget.size_bytes),
        "peak memory": (BoundKind.MEMORY, budget.peak_memory_bytes),
        "first inference": (BoundKind.FIRST_INFERENCE, budget.first_inference_ns),
        f"p{100 * budget.latency_quantile:g}": (BoundKind.LATENCY, budget.latency_ns),
        "throughput": (BoundKind.THROUGHPUT, budget.throughput_per_s),
    }
    return {
        of: Bound(kind=kind, limit=limit, q=budget.latency_quantile)
        for of, (kind, limit) in limits.items()
        if limit is not None
    }


def _as_verdict(of: str, bound: Bound, measurement: Measurement, size_bytes: int) -> BoundVerdict:
    check = judge_bound(bound, measurement, size_bytes=size_bytes)
    interval = check.interval
    flags: list[str] = []
    value = _counted(bound.kind, measurement, size_bytes)
    if value is not None:
        interval = Interval(low=value, estimate=value, high=value, confidence=1.0)
    if check.outcome is Outcome.INVALID:
        flags = _invalid(measurement)
    elif check.outcome is Outcome.INCONCLUSIVE and bound.kind is not BoundKind.MEMORY:
        flags = _doubts(measurement, bound.kind)
    return BoundVerdict(
        of=of, limit=bound.limit, outcome=check.outcome, interval=interval, flags=tuple(flags), reason=check.reason
    )


def judge_bound(bound: Bound, measurement: Measurement, *, size_bytes: int, look: int = 1) -> Check:
    """One line of a budget.

    Several lines need no correction of alpha: all must pass, and a wrong PASS of the whole needs one of a line that
    is not kept.

    Args:
        bound: The line.
        measurement: All traces so far.
        size_bytes: Of the artifact.
        look: 1 for the first look at this measurement, 2 for the next.

    """
    value = _counted(bound.kind, measurement, size_bytes)
    if bound.kind is BoundKind.SIZE and value is not None:
        return _fixed(bound, value, "of the artifact's files", look)
    if flags := _invalid(measurement):
        reason = "flags forbid its use: " + ", ".join(flags)
        return Check(name=str(bound), outcome=Outcome.INVALID, found="not to be used", reason=reason, looks=look)
    if bound.kind is BoundKind.MEMORY:
        if value is None:
            reason = "the device does not tell what memory a process takes"
            return Check(name=str(bound), outcome=Outcome.INCONCLUSIVE, found="unknown", reason=reason, looks=look)
        return _fixed(bound, value, f"the largest of {len(measurement.traces)} processes", look)
    if bound.kind is BoundKind.LATENCY:
        return _latency(bound, measurement, look)
    return _per_process(bound, measurement, look)


def _counted(kind: BoundKind, measurement: Measurement, size_bytes: int) -> float | None:
    """A value that no process differs in, or the largest of all; None where it has an interval, or nobody tells it."""
    if kind is BoundKind.SIZE:
        return size_bytes
    peaks = [trace.peak_memory_bytes for trace in measurement.traces]
    return max(peaks) if kind is BoundKind.MEMORY and all(peaks) else None


def _invalid(measurement: Measurement) -> list[str]:
    """The flags that forbid its use."""
    return [flag for flag in measurement_flags(measurement) if outcome_of([flag]) is Outcome.INVALID]


def _fixed(bound: Bound, value: float, of_what: str, look: int) -> Check:
    kept = value <= bound.limit
    return Check(
        name=str(bound),
        outcome=Outcome.PASS if kept else Outcome.FAIL,
        found=shown(bound.kind, value),
        reason=f"{shown(bound.kind, value)}, {of_what}, is {'within' if kept else 'over'} the limit",
        looks=look,
    )


def _latency(bound: Bound, measurement: Measurement, look: int) -> Check:
    verdict = judge_budget(measurement, q=bound.q, limit_ns=bound.limit, look=look)
    interval = verdict.interval_ns
    return Check(
        name=str(bound),
        outcome=verdict.outcome,
        found=_span(bound.kind, interval) if interval is not None else "unknown",
        reason=verdict.reason,
        interval=interval,
        evidence=verdict,
        looks=look,
    )


def _per_process(bound: Bound, measurement: Measurement, look: int) -> Check:
    """A throughput, or a first inference: one value per process, and Student's t over processes."""
    confidence = 1 - 2 * alpha_at(look)
    at_least = bound.kind is BoundKind.THROUGHPUT
    if at_least:
        interval = throughput_per_s(measurement, confidence=confidence)
    else:
        first = [float(trace.first_inference_ns) for trace in measurement.traces]
        interval = over_processes(first, confidence=confidence)
    if interval is None:
        reason = "one process says nothing about the next; measure at least 2"
        return Check(name=str(bound), outcome=Outcome.INCONCLUSIVE, found="unknown", reason=reason, looks=look)
    kept = interval.low >= bound.limit if at_least else interval.high <= bound.limit
    missed = interval.high < bound.limit if at_least else interval.low > bound.limit
    outcome = Outcome.FAIL if missed else Outcome.PASS if kept else Outcome.INCONCLUSIVE
    where = {Outcome.FAIL: "misses", Outcome.PASS: "keeps to"}.get(outcome, "lies on both sides of")
    reason = f"{_span(bound.kind, interval)} {where} the limit of {shown(bound.kind, bound.limit)}"
    doubts = _doubts(measurement, bound.kind)
    if doubts:
        outcome, reason = Outcome.INCONCLUSIVE, "flags leave it open: " + ", ".join(doubts)
    return Check(
        name=str(bound),
        outcome=outcome,
        found=_span(bound.kind, interval),
        reason=reason,
        interval=interval,
        looks=look,
    )


def _doubts(measurement: Measurement, kind: BoundKind) -> list[str]:
    """The flags that leave it open.

    Whether calls come to rest says nothing of the first one. And where queries come too fast they wait ever longer,
    which leaves latencies open, but not how many were answered.
    """
    flags = measurement_flags(measurement)
    overloaded = kind is BoundKind.THROUGHPUT and _OVERLOAD in flags
    ignored = _RESTLESS | {_OVERLOAD} if kind is BoundKind.FIRST_INFERENCE or overloaded else frozenset()
    return [flag for flag in flags if outcome_of([flag]) is Outcome.INCONCLUSIVE and flag not in ignored]


def judge_rate(measurement: Measurement, rate_per_s: float, look: int = 1) -> Check:
    """Whether a server answered queries as fast as they came."""
    overloaded = _OVERLOAD in measurement_flags(measurement)
    doubts = _doubts(measurement, BoundKind.THROUGHPUT) if overloaded else []
    outcome, reason = Outcome.PASS, "queries were answered as fast as they came"
    if doubts:
        outcome, reason = Outcome.INCONCLUSIVE, f"it was not kept, but the machine was disturbed: {', '.join(doubts)}"
    elif overloaded:
        outcome, reason = (
            Outcome.FAIL,
            "queries came faster than they could be answered, so that they waited ever longer",
        )
    return Check(
        name=f"rate of {rate_per_s:g} per s kept",
        outcome=outcome,
        found=f"{kept_rate(measurement):.0%} of it",
        reason=reason,
        looks=look,
    )


def judge_pairs(comparison: Comparison, other: str, *, fail_on: Change = Change.SLOWER) -> Check:
    """B against A: slower is a failure, and what pairs can't tell is inconclusive.

    Pairs see a busy machine on both sides: what they call slower is so, even where latencies are in doubt.

    Args:
        comparison: Of B with A.
        other: Name of A.
        fail_on: SLOWER, or REGRESSED where a surely slower one may pass that is not surely slower by delta.

    """
    speedup, change = comparison.speedup, comparison.change
    span = f"{speedup.low:.3g} to {speedup.high:.3g} times the speed"
    outcome, reason = Outcome.PASS, ""
    if change in (Change.SLOWER, Change.REGRESSED):
        failed = change is Change.REGRESSED or fail_on is Change.SLOWER
        outcome, reason = (Outcome.FAIL if failed else Outcome.PASS), f"{change}: {span} of the other"
    elif change is Change.UNKNOWN:
        advice = "" if comparison.pairs >= LEAST_ROUNDS else f"; {LEAST_ROUNDS} rounds or more are needed"
        outcome, reason = Outcome.INCONCLUSIVE, f"{span} of the other, from {comparison.pairs} pairs{advice}"
    return Check(name=f"against {other}", outcome=outcome, found=f"{change}, {span}", reason=reason, interval=speedup)


def _span(kind: BoundKind, interval: Interval) -> str:
    sure = f"{100 * interval.confidence:.4g} %"
    low, high = shown(kind, interval.low), shown(kind, interval.high)
    return f"{shown(kind, interval.estimate)} ({low} to {high}, {sure})"


@dataclass(frozen=True, kw_only=True)
class BoundAim:
    """An experiment's aim (`devices.stopping.Aim`): to know whether a throughput or a first inference is kept to."""

    bound: Bound
    arm: str

    def missing(self, measured: Mapping[str, Measurement], *, look: int) -> str:
        """Why it is still open; empty where it is not."""
        check = judge_bound(self.bound, measured[self.arm], size_bytes=0, look=look)
        return f"{self.bound} was still undecided: {check.reason}" if check.outcome is Outcome.INCONCLUSIVE else ""
