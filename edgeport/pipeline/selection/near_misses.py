"""What a candidate lacks: by how much it misses each bound, and what would have to change; pure.

Whether a bound is missed is decided in `constraints` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeport.contracts import BoundVerdict, Budget, Candidate, Interval, Lack, NearCandidate, Outcome
from edgeport.recipe.bounds import BoundKind, shown

__all__ = ["LEAST_GAIN", "bound_lack", "nearest"]

LEAST_GAIN = 0.01
"""What the whole interval of a gain must promise: two artifacts that are equally fast differ by some 0.1 % in every
experiment (where their code and data lie in memory), and no gain below this is worth an accuracy drop."""

_MOST_NEAR = 5
_NEVER_NEAR = (Outcome.INVALID, Outcome.UNMEASURED)
_SPEED_CODES = ("SLOWER", "NO_GAIN", "UNCONFIRMED", "NOT_FASTEST", "CONFIRMATION_INVALID")
_LONGER = "a longer measurement ([search] duration_s and rounds)"
_QUIETER = "a machine with nothing else at work"


def nearest(candidates: Sequence[Candidate], budget: Budget) -> tuple[NearCandidate, ...]:
    """Those that come nearest to shipping, by how far they are beyond their bounds, all bounds together.

    What could not be measured, or computes something else, is not near to anything.

    Args:
        candidates: Of a run in which nothing ships, each with its refusal.
        budget: That they did not keep to; of it, the accuracy drop that it allows.

    """
    near = [_near(candidate, budget) for candidate in candidates if _is_comparable(candidate)]
    found = [one for one in near if one.lacks]
    found.sort(key=lambda one: (sum(math.log(lack.factor) for lack in one.lacks), len(one.lacks)))
    return tuple(found[:_MOST_NEAR])


def _is_comparable(candidate: Candidate) -> bool:
    latency, accuracy = candidate.latency, candidate.accuracy
    if latency is None or latency.outcome in _NEVER_NEAR or candidate.artifact is None:
        return False
    return accuracy is None or accuracy.outcome not in _NEVER_NEAR


def _near(candidate: Candidate, budget: Budget) -> NearCandidate:
    bounds = [bound_lack(one) for one in candidate.bounds if one.outcome is not Outcome.PASS]
    lacks = [*_accuracy(candidate, budget), *bounds, *_others(candidate)]
    bounded = (["accuracy drop"] if candidate.accuracy is not None else []) + [one.of for one in candidate.bounds]
    missed = {lack.of for lack in lacks}
    kept = [name for name in bounded if name not in missed]
    return NearCandidate(name=candidate.name, lacks=tuple(lacks), kept=tuple(kept))


def _accuracy(candidate: Candidate, budget: Budget) -> list[Lack]:
    accuracy, allowed = candidate.accuracy, budget.accuracy_drop
    if accuracy is None or accuracy.outcome is Outcome.PASS:
        return []
    drop, sure = accuracy.drop, accuracy.outcome is Outcome.FAIL
    # Where nothing may be lost there is no ratio: then a loss counts against 1 % of the unit.
    factor = max(1.0, drop.estimate / allowed) if allowed > 0 else 1.0 + max(0.0, drop.estimate) / 0.01
    more = "a smaller loss" if sure else "more evaluation samples"
    return [
        Lack(
            of="accuracy drop",
            found=drop.estimate,
            limit=allowed,
            factor=factor,
            sure=sure,
            text=accuracy.reason
            or f"{accuracy.metric} drops by {drop.low:.4g} to {drop.high:.4g}, {allowed:g} is allowed",
            change=f"{more}, or accuracy_drop = {_above(drop.high):g}" if math.isfinite(drop.high) else more,
        )
    ]


def _others(candidate: Candidate) -> list[Lack]:
    """What no budget says: it must be asked for, run as planned, and be faster than the best float."""
    refusal = candidate.refusal
    if refusal is None:
        return []
    if refusal.code == "BASELINE":
        change = f'"{candidate.precision}" among the precisions of {candidate.backend}'
        return [
            Lack(
                of="asked for", found=None, limit=1.0, text="it was only a baseline: nobody asked for it", change=change
            )
        ]
    if refusal.code == "PLACEMENT":
        known = candidate.placement.as_planned if candidate.placement is not None else None
        least = candidate.least_placement or 1.0
        change = "these nodes in float, another runtime, or a lower require_placement"
        factor = least / max(known, 0.01) if known is not None else 1.0
        return [
            Lack(of="placement", found=known, limit=least, factor=max(1.0, factor), text=refusal.reason, change=change)
        ]
    if refusal.code == "NOT_AS_PLANNED":
        planned = (candidate.kept or 0) + len(candidate.lost or ())
        share = max((candidate.kept or 0) / planned, 0.01) if planned else 0.01
        change = "a runtime that keeps these nodes as integers here"
        return [Lack(of="placement", found=share, limit=1.0, factor=1 / share, text=refusal.reason, change=change)]
    if refusal.code not in _SPEED_CODES or candidate.against_float is None:
        return []
    speedup, least = candidate.against_float.speedup, 1.0 + LEAST_GAIN
    sure = speedup.high < least
    return [
        Lack(
            of="speed",
            found=speedup.estimate,
            limit=least,
            factor=max(1.0, least / speedup.estimate) if speedup.estimate > 0 else 100.0,
            sure=sure,
            text=refusal.reason,
            change="a faster kernel for it" if sure else f"{_LONGER}, or a larger gain",
        )
    ]


_KINDS = {
    "size": BoundKind.SIZE,
    "peak memory": BoundKind.MEMORY,
    "first inference": BoundKind.FIRST_INFERENCE,
    "throughput": BoundKind.THROUGHPUT,
}
"""Of what `BoundVerdict.of` names; all else is a quantile of the latency."""

_TOO = {BoundKind.SIZE: "large", BoundKind.MEMORY: "much"}


def bound_lack(verdict: BoundVerdict) -> Lack:
    """How far a bound is missed that is not surely kept, and what would do.

    A limit that would be kept is proposed in the recipe's words, by the end of the interval that misses most.
    """
    kind, of, interval = _KINDS.get(verdict.of, BoundKind.LATENCY), verdict.of, verdict.interval
    limit, sure = shown(kind, verdict.limit), verdict.outcome is Outcome.FAIL
    flags = ", ".join(verdict.flags)
    if interval is None or verdict.outcome is Outcome.INVALID:
        text = f"{of}: {verdict.reason}" if sure else f"{of} against {limit} can't be told: {flags or verdict.reason}"
        change = "a device that tells it (Linux)" if kind is BoundKind.MEMORY and not flags else _LONGER
        return Lack(of=of, found=None, limit=verdict.limit, sure=sure, text=text, change=change)
    at_least = kind is BoundKind.THROUGHPUT
    factor = max(1.0, verdict.limit / interval.estimate if at_least else interval.estimate / verdict.limit)
    if sure:
        text = f"{of} {shown(kind, interval.estimate)}, budget {limit}: {_times(factor)} too {_TOO.get(kind, 'slow')}"
    else:
        text = _open(verdict, interval, kind, flags)
    return Lack(
        of=of,
        found=interval.estimate,
        limit=verdict.limit,
        factor=factor,
        sure=sure,
        text=text,
        change=_change(verdict, interval, kind, factor),
    )


def _open(verdict: BoundVerdict, interval: Interval, kind: BoundKind, flags: str) -> str:
    """Why it can't be told whether the bound is kept."""
    limit = shown(kind, verdict.limit)
    span = f"{verdict.of} is {shown(kind, interval.low)} to {shown(kind, interval.high)}"
    if flags:
        return f"{span}, but against {limit} nothing can be told: {flags}"
    if interval.low <= verdict.limit <= interval.high:
        return f"{span}, on both sides of {limit}"
    return f"{span}, within {limit}, but so few calls can't prove it"


def _change(verdict: BoundVerdict, interval: Interval, kind: BoundKind, factor: float) -> str:
    """What would have to be done, or the limit that would be kept."""
    at_least = kind is BoundKind.THROUGHPUT
    allow = _below(interval.low) if at_least else _above(interval.high)
    written = f"{allow:g}/s" if at_least else shown(kind, allow)
    if kind is BoundKind.LATENCY:
        written = f"{verdict.of} <= {written}"
    missed = interval.low < verdict.limit if at_least else interval.high > verdict.limit
    key = {BoundKind.MEMORY: "peak_memory", BoundKind.FIRST_INFERENCE: "first_inference"}.get(kind, str(kind))
    would = f'{key} = "{written}"' if missed and 0 < allow < math.inf else ""
    if verdict.outcome is Outcome.FAIL and kind not in (BoundKind.LATENCY, BoundKind.THROUGHPUT):
        return f"{would}, or {_times(factor)} less"
    more = _QUIETER if verdict.flags else _LONGER
    if verdict.outcome is Outcome.FAIL:
        more = f"{_times(factor)} the speed"
    return f"{more}, or {would}" if would else more


def _times(factor: float) -> str:
    return f"{factor:.3g} times"


def _above(value: float) -> float:
    """The next number of two digits that is not below it."""
    return _rounded(value, math.ceil)


def _below(value: float) -> float:
    return _rounded(value, math.floor)


def _rounded(value: float, to: Callable[[float], int]) -> float:
    if not math.isfinite(value) or value <= 0:
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{to(value / unit - (1e-9 if to is math.ceil else -1e-9)) * unit:.12g}")
