"""What a candidate lacks: every bound that it misses, by how much, and what would have to change; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeport.contracts import Budget, Candidate, Interval, Lack, NearCandidate, Outcome
from edgeport.recipe.bounds import BoundKind, shown

__all__ = ["LEAST_GAIN", "budget_lacks", "nearest"]

LEAST_GAIN = 0.01
"""What the whole interval of a gain must promise: two artifacts that are equally fast differ by some 0.1 % in every
experiment (where their code and data lie in memory), and no gain below this is worth an accuracy drop."""

_MOST_NEAR = 5
_NEVER_NEAR = (Outcome.INVALID, Outcome.UNMEASURED)
_SPEED_CODES = ("SLOWER", "NO_GAIN", "UNCONFIRMED", "NOT_FASTEST", "CONFIRMATION_INVALID")
_LONGER = "a longer measurement ([search] duration_s and rounds)"
_QUIETER = "a machine with nothing else at work"


def budget_lacks(candidate: Candidate, budget: Budget) -> tuple[Lack, ...]:
    """The bounds of size, memory, first inference, latency and throughput that a candidate misses, or may miss."""
    found = (check(candidate, budget) for check in _CHECKS.values())
    return tuple(lack for lack in found if lack is not None)


def nearest(candidates: Sequence[Candidate], budget: Budget) -> tuple[NearCandidate, ...]:
    """Those that come nearest to shipping, by how far they are beyond their bounds, all bounds together.

    What could not be measured, or computes something else, is not near to anything.

    Args:
        candidates: Of a run in which nothing ships, each with its refusal.
        budget: That they did not keep to.

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
    lacks = [*_accuracy(candidate, budget), *budget_lacks(candidate, budget), *_others(candidate)]
    missed = {lack.of for lack in lacks}
    kept = [name for name in _bounded(candidate, budget) if name not in missed]
    return NearCandidate(name=candidate.name, lacks=tuple(lacks), kept=tuple(kept))


def _bounded(candidate: Candidate, budget: Budget) -> list[str]:
    """Everything that this candidate was held to, as `Lack.of` names it."""
    names = {
        "accuracy drop": candidate.accuracy is not None,
        "size": budget.size_bytes is not None,
        "peak memory": budget.peak_memory_bytes is not None,
        "first inference": budget.first_inference_ns is not None,
        f"p{100 * budget.latency_quantile:g}": budget.latency_ns is not None,
        "throughput": budget.throughput_per_s is not None and candidate.throughput is not None,
    }
    return [name for name, is_bounded in names.items() if is_bounded]


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


def _size(candidate: Candidate, budget: Budget) -> Lack | None:
    if candidate.artifact is None:
        return None
    return _above_limit("size", BoundKind.SIZE, candidate.artifact.size_bytes, budget.size_bytes)


def _memory(candidate: Candidate, budget: Budget) -> Lack | None:
    if candidate.latency is None:
        return None
    largest, limit = candidate.latency.peak_memory_bytes, budget.peak_memory_bytes
    if limit is not None and not largest:
        reason = f"peak memory against {shown(BoundKind.MEMORY, limit)} can't be told: the device does not tell it"
        return Lack(
            of="peak memory", found=None, limit=limit, sure=False, text=reason, change="a device that tells it (Linux)"
        )
    return _above_limit("peak memory", BoundKind.MEMORY, largest, limit)


def _first_inference(candidate: Candidate, budget: Budget) -> Lack | None:
    if candidate.latency is None:
        return None
    first_ns = candidate.latency.first_inference_ns
    return _above_limit("first inference", BoundKind.FIRST_INFERENCE, first_ns, budget.first_inference_ns)


_TOO = {BoundKind.SIZE: "large", BoundKind.MEMORY: "much", BoundKind.FIRST_INFERENCE: "slow", BoundKind.LATENCY: "slow"}
_KEYS = {
    BoundKind.SIZE: "size",
    BoundKind.MEMORY: "peak_memory",
    BoundKind.FIRST_INFERENCE: "first_inference",
    BoundKind.LATENCY: "latency",
    BoundKind.THROUGHPUT: "throughput",
}


def _above_limit(of: str, kind: BoundKind, value: float, limit: float | None) -> Lack | None:
    if limit is None or value <= limit:
        return None
    return Lack(
        of=of,
        found=value,
        limit=limit,
        factor=value / limit,
        text=f"{of} {shown(kind, value)}, budget {shown(kind, limit)}: {_times(value / limit)} too {_TOO[kind]}",
        change=f'{_KEYS[kind]} = "{shown(kind, _above(value))}", or {_times(value / limit)} less',
    )


def _latency(candidate: Candidate, budget: Budget) -> Lack | None:
    limit, latency = budget.latency_ns, candidate.latency
    if limit is None or latency is None:
        return None
    quantile, of = latency.quantile(budget.latency_quantile), f"p{100 * budget.latency_quantile:g}"
    doubts = (_grave(latency.flags) or "no steady state") if latency.outcome is Outcome.INCONCLUSIVE else ""
    if quantile.interval_ns is None:
        reason = f"{of} against {shown(BoundKind.LATENCY, limit)} can't be told: {quantile.refused}"
        return Lack(of=of, found=None, limit=limit, sure=False, text=reason, change=_LONGER)
    return _judged(
        _Asked(of=of, kind=BoundKind.LATENCY, limit=limit, written=f"{of} <= "), quantile.interval_ns, doubts
    )


def _grave(flags: Sequence[str]) -> str:
    """Those that leave a number open, not those that only tell of it."""
    from edgeport.devices.latency.validity_flags import outcome_of

    return ", ".join(flag for flag in flags if outcome_of([flag]) is not Outcome.PASS)


def _throughput(candidate: Candidate, budget: Budget) -> Lack | None:
    limit, found = budget.throughput_per_s, candidate.throughput
    if limit is None or found is None:
        return None
    flags = ", ".join(found.flags)
    if found.per_s is None or found.outcome is Outcome.INVALID:
        why = flags or "one process says nothing about the next"
        reason = f"throughput against {shown(BoundKind.THROUGHPUT, limit)} can't be told: {why}"
        return Lack(of="throughput", found=None, limit=limit, sure=False, text=reason, change=_LONGER)
    return _judged(_Asked(of="throughput", kind=BoundKind.THROUGHPUT, limit=limit), found.per_s, flags)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A bound on something that has an interval.

    Attributes:
        of: See `Lack`.
        kind, limit: A throughput is bounded from below, all others from above.
        written: What stands before the limit in a recipe.

    """

    of: str
    kind: BoundKind
    limit: float
    written: str = ""

    @property
    def at_least(self) -> bool:
        """It is bounded from below."""
        return self.kind is BoundKind.THROUGHPUT

    def missed(self, value: float) -> bool:
        """A value that does not keep to the bound."""
        return value < self.limit if self.at_least else value > self.limit

    def factor(self, value: float) -> float:
        """How many times a value is beyond the bound; 1 where it keeps to it."""
        return max(1.0, self.limit / value if self.at_least else value / self.limit)


def _judged(asked: _Asked, interval: Interval, doubts: str) -> Lack | None:
    """None where all of the interval keeps to the bound and nothing leaves it in doubt."""
    kind, limit = asked.kind, shown(asked.kind, asked.limit)
    best, worst = (interval.high, interval.low) if asked.at_least else (interval.low, interval.high)
    if not asked.missed(worst) and not doubts:
        return None
    # As `bench` has it: a throughput that somebody disturbed is open, however clear it looks.
    sure = asked.missed(best) and not (doubts and asked.at_least)
    factor = asked.factor(interval.estimate)
    span = f"{shown(kind, interval.low)} to {shown(kind, interval.high)}"
    if sure:
        text = f"{asked.of} {shown(kind, interval.estimate)}, budget {limit}: {_times(factor)} too slow"
        more = f"{_times(factor)} the speed"
    elif doubts:
        text, more = f"{asked.of} is {span}, but against {limit} nothing can be told: {doubts}", _QUIETER
    else:
        text, more = f"{asked.of} is {span}, on both sides of {limit}", _LONGER
    allow = _below(worst) if asked.at_least else _above(worst)
    written = f"{allow:g}/s" if asked.at_least else f"{asked.written}{shown(kind, allow)}"
    would = f', or {_KEYS[kind]} = "{written}"' if math.isfinite(allow) and allow > 0 and asked.missed(worst) else ""
    return Lack(
        of=asked.of,
        found=interval.estimate,
        limit=asked.limit,
        factor=factor,
        sure=sure,
        text=text,
        change=f"{more}{would}",
    )


_CHECKS: dict[str, Callable[[Candidate, Budget], Lack | None]] = {
    "size": _size,
    "peak memory": _memory,
    "first inference": _first_inference,
    "latency": _latency,
    "throughput": _throughput,
}


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
