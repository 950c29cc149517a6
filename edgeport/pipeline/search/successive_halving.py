"""Which of many executions is best: fewer and fewer are measured more and more often; pure, but for what measures them.

Successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016), with pairs in place of means: within a
round all arms are neighbours in time, so that a busy machine moves them together. Nothing is chosen on the search
alone: those that are left at the end are measured again, beside the runtimes' defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeport.contracts import Interval, Measurement, Outcome
from edgeport.pipeline.selection.constraints import judge_bound
from edgeport.recipe.bounds import Bound, BoundKind

__all__ = ["Choice", "Goal", "choose", "halve", "is_last", "leaders", "refine", "scores"]

_KEPT = 3
"""One arm of so many is kept after each rung."""
_FINALISTS = 2
_NEAR = math.log(1.05)
_ROOM = 1.2
"""An arm whose tail is over the bound by more than this is not measured on: few calls say little of a tail."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is looked for.

    Attributes:
        of: "latency" (the median of a call, lowest) or "throughput" (samples per second, highest).
        p99_ns: That a call must keep to; None for no bound.

    """

    of: str
    p99_ns: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen in the end, and why.

    Attributes:
        arm: Its name; empty where none keeps to the bound.
        default: The best of the defaults.
        gain: Times the speed of that default, paired by round; None where it was not compared.
        outcome: PASS; INCONCLUSIVE where it is not sure that the bound is kept, FAIL where nothing keeps to it.
        reason: In a sentence.

    """

    arm: str
    default: str
    gain: Interval | None = None
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    tails: Mapping[str, Outcome] = field(default_factory=dict)


def scores(measurement: Measurement, goal: Goal) -> dict[int, float]:
    """By round: ln(samples per second), or -ln(median nanoseconds of a sample); higher is better.

    For latency the calls of one arm may hold more samples than another's; it is the call that counts.
    """
    from edgeport.devices.latency.steady_portion import steady_latencies

    found = {}
    for trace, values in zip(measurement.traces, steady_latencies(measurement), strict=True):
        if goal.of == "throughput":
            if trace.samples and trace.elapsed_ns:
                found[trace.round] = math.log(trace.samples / trace.elapsed_ns)
        elif len(values):
            ordered = sorted(values)
            found[trace.round] = -math.log(ordered[len(ordered) // 2])
    return found


def halve(measured: Mapping[str, Measurement], goal: Goal, defaults: Sequence[str]) -> tuple[str, ...]:
    """The arms that are measured on: a third of them, and at least two; and the defaults that are among the best.

    Args:
        measured: By arm, of the same rounds; one that failed is not there, and one that computed something else goes.
        goal: What counts.
        defaults: Names of the arms that are the runtimes' own: the best of them stays, whatever it shows, and with it
            those so near that a few rounds can't tell them apart.

    """
    known = {arm: found for arm, one in measured.items() if not _is_broken(one, goal) and (found := scores(one, goal))}
    ranked = sorted(known, key=lambda arm: (-_middle(known[arm]), arm))
    fitting = [arm for arm in ranked if _may_fit(measured[arm], goal) and arm not in defaults]
    count = max(_FINALISTS, math.ceil(len(measured) / _KEPT))
    own = [arm for arm in ranked if arm in defaults]
    near = [arm for arm in own if _middle(known[arm]) >= _middle(known[own[0]]) - _NEAR]
    return (*fitting[:count], *near)


def is_last(arms: Sequence[str], defaults: Sequence[str]) -> bool:
    """So few are left that they are measured for the last word."""
    return sum(arm not in defaults for arm in arms) <= _FINALISTS


def choose(
    measured: Mapping[str, Measurement], defaults: Sequence[str], goal: Goal, *, confidence: float = 0.95
) -> Choice:
    """The winner of the last, fresh rounds.

    A challenger is taken where the whole paired interval says that it is better than the best default; without a bound
    nothing else can take the default's place. With a bound, a default that breaks it is no rival. Challengers share the
    error between them.

    Args:
        measured: By arm, of the same rounds.
        defaults: Names of the arms that are the runtimes' own.
        goal: What counts, and the bound.
        confidence: Of all comparisons together.

    """
    import numpy as np

    from edgeport.devices.latency.comparison import paired_interval

    usable = {arm: one for arm, one in measured.items() if not _is_broken(one, goal) and scores(one, goal)}
    tails = {arm: _tail(one, goal) for arm, one in usable.items()}
    known = {arm: scores(one, goal) for arm, one in usable.items()}
    ranked = sorted(known, key=lambda arm: (-_middle(known[arm]), arm))
    fallback = next((arm for arm in ranked if arm in defaults), "")
    fitting = [arm for arm in ranked if tails[arm][0] in (Outcome.PASS, Outcome.INCONCLUSIVE)]
    if not fitting:
        reason = f"nothing keeps to the bound: {tails[ranked[0]][1]}" if ranked else "nothing could be measured"
        return Choice(
            arm="",
            default=fallback,
            outcome=tails[ranked[0]][0] if ranked else Outcome.UNMEASURED,
            reason=reason,
            tails={arm: outcome for arm, (outcome, _) in tails.items()},
        )
    base = next((arm for arm in fitting if arm in defaults), "")
    challengers = [arm for arm in fitting if arm not in defaults]
    chosen, gain = base or challengers[0], None
    for arm in challengers if base else ():
        common = sorted(known[arm].keys() & known[base].keys())
        differences = np.array([known[base][index] - known[arm][index] for index in common])
        if not len(differences):
            continue
        estimate, low, high = paired_interval(differences, confidence=1 - (1 - confidence) / len(challengers))
        found = Interval(low=math.exp(-high), estimate=math.exp(-estimate), high=math.exp(-low), confidence=confidence)
        if found.low > 1.0:
            chosen, gain = arm, found
            break
        gain = gain or found
    outcome, said = tails[chosen]
    if chosen == base:
        reason = f"nothing that was tried is surely better than the default; {said}".rstrip("; ")
    else:
        reason = said if base else f"no default keeps to the bound; {said}"
    return Choice(
        arm=chosen,
        default=base or fallback,
        gain=gain,
        outcome=outcome,
        reason=reason,
        tails={arm: one for arm, (one, _) in tails.items()},
    )


def leaders(
    choice: Choice, measured: Mapping[str, Measurement], defaults: Sequence[str], goal: Goal
) -> tuple[str, ...]:
    """The choice; and the default that it beat, or else the best of those that did not beat the default.

    What breaks the bound leads nothing, so there may be fewer, or none.
    """
    fitting = {arm for arm, outcome in choice.tails.items() if outcome in (Outcome.PASS, Outcome.INCONCLUSIVE)}
    if choice.arm not in fitting:
        return ()
    known = {arm: found for arm in fitting if (found := scores(measured[arm], goal))}
    others = sorted((arm for arm in known if arm not in defaults), key=lambda arm: (-_middle(known[arm]), arm))
    second = others[:1] if choice.arm in defaults else [arm for arm in [choice.default] if arm in fitting]
    return (choice.arm, *second)


def refine(choice: Choice, measured: Mapping[str, Measurement], variants: Sequence[str], goal: Goal) -> Choice:
    """The variant that takes the choice's place: surely better than it, and than the default; or the choice.

    Judged by `choose`, where the choice stands for the default.

    Args:
        choice: Of the last rounds.
        measured: Of fresh rounds: the choice, the default, and the variants.
        variants: Names of what may take its place.
        goal: See `choose`.

    """
    rivals = {arm: one for arm, one in measured.items() if arm == choice.arm or arm in variants}
    found = choose(rivals, [choice.arm], goal)
    if found.arm not in variants or found.gain is None:
        return choice
    if choice.default not in (choice.arm, ""):
        pair = {arm: measured[arm] for arm in (choice.default, found.arm) if arm in measured}
        beside = choose(pair, [choice.default], goal)
        if beside.arm != found.arm:
            return choice
        found = replace(found, gain=beside.gain)
    return replace(found, default=choice.default, tails={**choice.tails, **found.tails})


def _middle(values: Mapping[int, float]) -> float:
    ordered = sorted(values.values())
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _is_broken(measurement: Measurement, goal: Goal) -> bool:
    """It computed something else, or the clock was set: no number of it may be used.

    How long one call takes does not matter where all of them are counted.
    """
    from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

    harmless = {"coarse-clock"} if goal.of == "throughput" else set()
    return any(outcome_of([flag]) is Outcome.INVALID for flag in measurement_flags(measurement) if flag not in harmless)


def _may_fit(measurement: Measurement, goal: Goal) -> bool:
    """Its tail is not so far over the bound that measuring on is of no use."""
    if goal.p99_ns is None:
        return True
    values = sorted(value for trace in measurement.traces for value in trace.latency_ns)
    return bool(values) and values[min(len(values) - 1, int(0.99 * len(values)))] <= _ROOM * goal.p99_ns


def _tail(measurement: Measurement, goal: Goal) -> tuple[Outcome, str]:
    """Whether the bound is kept, as a budget's line is judged."""
    if goal.p99_ns is None:
        return Outcome.PASS, ""
    bound = Bound(kind=BoundKind.LATENCY, limit=goal.p99_ns, q=0.99)
    check = judge_bound(bound, measurement, size_bytes=0)
    return check.outcome, f"p99: {check.reason}"
