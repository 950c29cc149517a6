"""Which candidate ships: pure rules over what is known of each, no runtime and no clock.

The rule, in order: whatever failed stays refused; the best float is the fastest float candidate whose accuracy is not
out of budget; a quantized candidate ships only when its accuracy passes, it runs as planned, it keeps every budget,
and the whole interval of a fresh confirmation is a gain of 1 % or more over the best float. Otherwise the best float
ships.

The best float is looked for among all floats that the candidates' runtimes have here, also those that the recipe did
not name (baselines): a quantized candidate that a float outruns is not worth its accuracy drop, named or not. A
baseline in float32 may ship, since it is the model as it is. One in bf16 or fp16 may not, since nobody asked for its
arithmetic: it is a yardstick only. Where such a yardstick is the best float and nothing quantized beats it, the best
float that may ship does, and a note says what would be faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeport.contracts import Candidate, Change, Comparison, Outcome, Precision, Refusal, worst_of
from edgeport.pipeline.compilation.placement import judge_placement
from edgeport.pipeline.selection.near_misses import LEAST_GAIN, bound_lack

__all__ = [
    "LEAST_GAIN",
    "Decision",
    "best_float",
    "challengers",
    "conclude",
    "decide",
    "faster_yardstick",
    "gains",
    "is_yardstick",
    "judge",
    "median_ns",
    "rivals",
    "weakest",
]

_RIVAL_MARGIN = 1.05
"""Floats within 5 % of the best one's screening median are confirmed beside it: which is best may be noise."""


_LEAST_KEPT = 0.5


def median_ns(candidate: Candidate) -> float:
    """The median latency in nanoseconds; infinite where there is none to be believed."""
    if candidate.latency is None or candidate.latency.outcome is Outcome.INVALID:
        return float("inf")
    interval = candidate.latency.quantile(0.5).interval_ns
    return float("inf") if interval is None else interval.estimate


def _seen_ns(candidate: Candidate) -> float:
    """As `median_ns`, but of an INVALID latency too: a float that is in doubt must still be beaten."""
    interval = candidate.latency.quantile(0.5).interval_ns if candidate.latency is not None else None
    return float("inf") if interval is None else interval.estimate


def is_yardstick(candidate: Candidate) -> bool:
    """A float of less than 32 bits that nobody asked for: it must be beaten, and does not ship."""
    return candidate.baseline and candidate.precision is not Precision.FP32


def _eligible_float(candidate: Candidate) -> bool:
    if not candidate.is_float or candidate.refusal is not None or _seen_ns(candidate) == float("inf"):
        return False
    if candidate.latency is not None and "too-fast" in candidate.latency.flags:
        return False  # nothing could ever beat what does not do the work
    return candidate.accuracy is None or candidate.accuracy.outcome in (Outcome.PASS, Outcome.INCONCLUSIVE)


def best_float(candidates: Sequence[Candidate]) -> Candidate | None:
    """The float candidate of least median latency whose accuracy is not out of budget."""
    floats = [candidate for candidate in candidates if _eligible_float(candidate)]
    return min(floats, key=_seen_ns, default=None)


def rivals(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The best float and those so close to it that the screening can't tell them apart, fastest first."""
    floats = sorted((candidate for candidate in candidates if _eligible_float(candidate)), key=_seen_ns)
    return tuple(
        candidate
        for candidate in floats
        if _seen_ns(candidate) <= _RIVAL_MARGIN * _seen_ns(floats[0]) or _may_be_faster(candidate)
    )


def _may_be_faster(candidate: Candidate) -> bool:
    """The screening's paired interval against the best float does not say that it is slower."""
    comparison = candidate.against_float
    return comparison is not None and comparison.pairs > 0 and comparison.speedup.high >= 1.0


def judge(candidate: Candidate) -> Candidate:
    """Refuses a candidate for what is known before the confirmation; leaves the others as they are."""
    if candidate.refusal is not None:
        return candidate
    for check in (_refuse_latency, _refuse_accuracy, _refuse_placement, _refuse_bounds):
        refusal, outcome = check(candidate)
        if refusal is not None:
            return replace(candidate, refusal=refusal, outcome=outcome)
    return candidate


def _refuse_latency(candidate: Candidate) -> tuple[Refusal | None, Outcome]:
    if candidate.latency is None:
        return Refusal(code="UNMEASURED", reason="nothing here can run it, so no latency is known"), Outcome.UNMEASURED
    if candidate.latency.outcome is Outcome.INVALID:
        flags = ", ".join(candidate.latency.flags) or "no steady readings"
        return Refusal(code="LATENCY_INVALID", reason=f"its latency must not be believed: {flags}"), Outcome.INVALID
    if median_ns(candidate) == float("inf"):
        reason = candidate.latency.quantile(0.5).refused or "no median"
        return Refusal(code="LATENCY_INCONCLUSIVE", reason=f"its median is unknown: {reason}"), Outcome.INCONCLUSIVE
    return None, candidate.outcome


def _refuse_accuracy(candidate: Candidate) -> tuple[Refusal | None, Outcome]:
    accuracy = candidate.accuracy
    if accuracy is None or accuracy.outcome is Outcome.PASS:
        return None, candidate.outcome
    return Refusal(code="ACCURACY", reason=accuracy.reason or "the accuracy drop is out of budget"), accuracy.outcome


def _refuse_placement(candidate: Candidate) -> tuple[Refusal | None, Outcome]:
    """As much as was asked for must have run as planned; of integers most: else its speed is not that of the plan."""
    placement = candidate.placement
    if candidate.least_placement is not None:
        outcome, found = judge_placement(placement, candidate.least_placement)
        if outcome is not Outcome.PASS:
            return Refusal(code="PLACEMENT", reason=found), outcome
    if candidate.precision.is_float or placement is None:
        return None, candidate.outcome
    if candidate.kept is None or candidate.lost is None:
        share, found = placement.share("int8"), "no node ran in int8"
    else:
        planned = candidate.kept + len(candidate.lost)
        share = candidate.kept / planned if planned else 1.0
        found = f"only {candidate.kept} of {planned} planned nodes ran as integers"
    if share > 0 and (candidate.kept is None or share >= _LEAST_KEPT):
        return None, candidate.outcome
    reason = f"planned {candidate.precision}, but {found} ({placement.summary()})"
    return Refusal(code="NOT_AS_PLANNED", reason=reason), Outcome.FAIL


def _refuse_bounds(candidate: Candidate) -> tuple[Refusal | None, Outcome]:
    """Every bound of the budget must surely be kept; the reason is that of the first with the worst verdict."""
    worst = worst_of(verdict.outcome for verdict in candidate.bounds)
    if worst is Outcome.PASS:
        return None, candidate.outcome
    verdict = next(one for one in candidate.bounds if one.outcome is worst)
    return Refusal(code="BUDGET", reason=bound_lack(verdict).text), worst


def challengers(candidates: Sequence[Candidate], best: Candidate) -> tuple[Candidate, ...]:
    """Quantized candidates without a refusal that screening saw ahead of the best float, fastest first."""
    ahead = (
        candidate
        for candidate in candidates
        if not candidate.is_float and candidate.refusal is None and median_ns(candidate) < _seen_ns(best)
    )
    return tuple(sorted(ahead, key=median_ns))


def gains(against: Mapping[str, Comparison]) -> bool:
    """The confirmation's intervals all lie above `LEAST_GAIN`."""
    # An invalid measurement has an interval too, but its change is UNKNOWN.
    certain = (Change.FASTER, Change.IMPROVED)
    return bool(against) and all(
        one.change in certain and one.speedup.low > 1.0 + LEAST_GAIN for one in against.values()
    )


def weakest(against: Mapping[str, Comparison]) -> Comparison:
    """The comparison with the float that was hardest to beat: by the bound that `gains` decides by."""
    return min(against.values(), key=lambda comparison: (comparison.speedup.low, comparison.speedup.estimate))


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the candidates' outcomes rest on.

    Attributes:
        chosen: What ships, or None.
        best: The best float, or None.
        confirmed, unusable: See `conclude`.

    """

    chosen: Candidate | None
    best: Candidate | None
    confirmed: Mapping[str, Mapping[str, Comparison]]
    unusable: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What ships.

    Attributes:
        candidates: Each with its outcome; the chosen first, then by latency.
        chosen: Name of what ships; empty where nothing does.
        best_float: Name of the float that had to be beaten; empty where none could be measured.
        outcome: PASS where something ships; else INCONCLUSIVE or INVALID where more evidence could change that; FAIL
            where it could not, and UNMEASURED where nothing could be run at all.

    """

    candidates: tuple[Candidate, ...]
    chosen: str
    best_float: str
    outcome: Outcome


def decide(
    candidates: Sequence[Candidate],
    confirmed: Mapping[str, Mapping[str, Comparison]],
    unusable: Mapping[str, str],
) -> Decision:
    """Judges every candidate and says what ships.

    Args:
        candidates: As they were measured.
        confirmed: See `conclude`.
        unusable: See `conclude`.

    """
    best = best_float(candidates)
    judged = [judge(candidate) for candidate in candidates]
    # What is out of budget must not ship, but is still the speed that the others are compared with.
    judged_best = next((one for one in judged if best is not None and one.name == best.name), None)
    concluded, chosen = conclude(judged, judged_best, confirmed, unusable)
    name = best.name if best is not None else ""
    return Decision(candidates=concluded, chosen=chosen, best_float=name, outcome=_outcome(concluded, chosen))


def _outcome(candidates: Sequence[Candidate], chosen: str) -> Outcome:
    if chosen:
        return Outcome.PASS
    outcomes = {candidate.outcome for candidate in candidates if not is_yardstick(candidate)}
    if outcomes <= {Outcome.UNMEASURED}:
        return Outcome.UNMEASURED
    for outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID):
        if outcome in outcomes:
            return outcome
    return Outcome.FAIL


def conclude(
    candidates: Sequence[Candidate],
    best: Candidate | None,
    confirmed: Mapping[str, Mapping[str, Comparison]],
    unusable: Mapping[str, str] | None = None,
) -> tuple[tuple[Candidate, ...], str]:
    """Gives every candidate its outcome and says which one ships.

    Args:
        candidates: After `judge`.
        best: The best float; None where no float could be measured.
        confirmed: Per challenger that was measured again, its comparison with each rival float.
        unusable: Per challenger whose confirmation must not be used, why ("throttled").

    Returns:
        The candidates, the chosen first and then by latency, and the name of the chosen (empty for none).

    """
    winners = [c for c in candidates if c.refusal is None and gains(confirmed.get(c.name, {}))]
    winner = min(winners, key=median_ns, default=None)
    floats = [c for c in candidates if c.is_float and c.refusal is None and not is_yardstick(c)]
    # The best float is the yardstick; where it may not ship itself, the fastest float that may does.
    chosen = winner if winner is not None else min(floats, key=median_ns, default=None)
    known = _Known(chosen=chosen, best=best, confirmed=confirmed, unusable=unusable or {})
    done = [_concluded(candidate, known) for candidate in candidates]
    done.sort(key=lambda c: (chosen is None or c.name != chosen.name, median_ns(c), c.name))
    return tuple(done), "" if chosen is None else chosen.name


def faster_yardstick(candidates: Sequence[Candidate], best: str, chosen: str) -> str:
    """A sentence where a float ships although one that nobody asked for was faster; else empty.

    Args:
        candidates: After `conclude`.
        best: Name of the best float.
        chosen: Name of what ships.

    """
    by_name = {candidate.name: candidate for candidate in candidates}
    one, other = by_name.get(best), by_name.get(chosen)
    if one is None or other is None or not other.is_float or one.refusal is None or one.refusal.code != "BASELINE":
        return ""
    compared = other.against_float
    surely = compared is not None and compared.speedup.high < 1.0
    seen = f", {median_ns(one) / 1e6:.4g} ms against {median_ns(other) / 1e6:.4g} ms"
    return (
        f"{one.name} {'would be' if surely else 'may be'} faster than {other.name}{seen}. It was only a baseline: "
        f'add "{one.precision}" to the precisions of {one.backend} to let it ship.'
    )


def _concluded(candidate: Candidate, known: _Known) -> Candidate:
    against = known.confirmed.get(candidate.name)
    if against:
        candidate = replace(candidate, against_float=weakest(against))
    if candidate.refusal is not None:
        return candidate
    if known.chosen is not None and candidate.name == known.chosen.name:
        return replace(candidate, outcome=Outcome.PASS)
    refusal = _float_not_chosen(candidate, known) if candidate.is_float else _not_chosen(candidate, known)
    return replace(candidate, refusal=refusal, outcome=_OUTCOMES.get(refusal.code, Outcome.FAIL))


_OUTCOMES = {
    "NO_GAIN": Outcome.INCONCLUSIVE,
    "UNCONFIRMED": Outcome.INCONCLUSIVE,
    "CONFIRMATION_INVALID": Outcome.INVALID,
}


def _gain(comparison: Comparison) -> str:
    interval, other = comparison.speedup, comparison.against or "the best float"
    bounds = f"{interval.low:.3f} to {interval.high:.3f}"
    if not math.isfinite(interval.high):
        bounds = "in too few rounds for an interval"
    return f"{interval.estimate:.2f}x the speed of {other}, {bounds}"


def _float_not_chosen(candidate: Candidate, known: _Known) -> Refusal:
    if is_yardstick(candidate):
        reason = (
            f"a baseline: {candidate.precision} was not asked for here, so others must beat it, but it does not ship"
        )
        return Refusal(code="BASELINE", reason=reason)
    best, chosen = known.best, known.chosen
    if best is not None and candidate.name == best.name:
        winner = chosen.name if chosen is not None else "another candidate"
        return Refusal(code="BEATEN", reason=f"{winner} is faster within the accuracy budget")
    name = best.name if best is not None else "the best float"
    comparison = candidate.against_float
    if comparison is not None and comparison.pairs and comparison.speedup.high < 1.0:
        return Refusal(code="SLOWER", reason=f"slower: {_gain(comparison)}")
    reason = f"no faster than {name}, which has the lower median"
    if comparison is not None and comparison.pairs:
        reason += f"; the pairs can't tell them apart ({_gain(comparison)})"
    return Refusal(code="NOT_FASTEST", reason=reason)


def _not_chosen(candidate: Candidate, known: _Known) -> Refusal:
    if candidate.name in known.confirmed:
        return _not_confirmed(candidate, known)
    comparison, best = candidate.against_float, known.best
    if comparison is None or best is None:
        return Refusal(code="NO_GAIN", reason="no float candidate could be measured beside it")
    if comparison.speedup.high < 1.0:
        return Refusal(code="SLOWER", reason=f"slower: {_gain(comparison)}")
    if median_ns(candidate) >= _seen_ns(best):
        reason = f"no gain when screened, the median of {best.name} is no higher: {_gain(comparison)}"
        return Refusal(code="NO_GAIN", reason=reason)
    tried, seen = len(known.confirmed), f"when screened, it had {_gain(comparison)}"
    if known.chosen is not None and not known.chosen.is_float:
        reason = (
            f"not confirmed: {known.chosen.name}, with the lower median, was measured again before it and ships; {seen}"
        )
        return Refusal(code="NOT_FASTEST", reason=reason)
    before = f"{tried} challenger{'s' if tried != 1 else ''} before it {'were' if tried != 1 else 'was'} measured again"
    return Refusal(code="UNCONFIRMED", reason=f"not confirmed: {before}, none with a certain gain; {seen}")


def _not_confirmed(candidate: Candidate, known: _Known) -> Refusal:
    """Of a challenger that was measured again."""
    against = known.confirmed[candidate.name]
    if not against:
        reason = "not confirmed: no float could be measured beside it when it was measured again"
        return Refusal(code="UNCONFIRMED", reason=reason)
    if gains(against):
        name = known.chosen.name if known.chosen is not None else "another candidate"
        reason = f"a gain when measured again ({_gain(weakest(against))}), but {name} has the lower median"
        return Refusal(code="NOT_FASTEST", reason=reason)
    flags = known.unusable.get(candidate.name)
    # An interval without 1 in it has a change, unless a measurement is invalid.
    apart = [c for c in against.values() if c.change is Change.UNKNOWN and not c.speedup.low <= 1.0 <= c.speedup.high]
    if flags or apart:
        reason = f"the confirmation must not be used: {flags or 'what was measured is invalid'}"
        return Refusal(code="CONFIRMATION_INVALID", reason=reason)
    comparison = weakest(against)
    if comparison.speedup.high < 1.0:
        return Refusal(code="SLOWER", reason=f"slower: {_gain(comparison)}")
    reason = f"no certain gain of {LEAST_GAIN:.0%} when measured again in fresh pairs: {_gain(comparison)}"
    return Refusal(code="NO_GAIN", reason=reason)
