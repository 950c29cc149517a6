"""The candidates of one name timed side by side, and the leading ones measured again beside the floats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeport.contracts import Candidate, Comparison, Measurement, OnnxModel, Outcome, SingleStream
from edgeport.pipeline.benchmarking.experiment import Arm, Timed, compare_arms, time_arms, with_latency, with_throughput
from edgeport.pipeline.benchmarking.roofline import run_rooflines
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.estimates import process_s
from edgeport.pipeline.evaluation.evaluate import Validated
from edgeport.pipeline.selection.select import best_float, challengers, gains, is_yardstick, judge, rivals
from edgeport.recipe.statistical_power import least_p_value

__all__ = ["Confirmation", "arm_of", "confirm", "confirm_beside_floats", "load_fully", "screen"]

_CONFIRMATIONS = (0.04, 0.008, 0.002)
"""Challengers that are measured again, one after the other, until one holds. Each is one more chance to be fooled: the
probabilities of a wrong interval add up to 5 %, and the first, which is nearly always the last, gets most of it. The
less a confirmation may err, the more rounds it takes to prove anything: see `_least_rounds`."""


def arm_of(one: Validated, row: int) -> Arm | None:
    """What is timed of it, with its output for the sample at `row`; None where it can't run."""
    candidate, artifact = one.candidate, one.candidate.artifact
    if candidate.refusal is not None or artifact is None or one.outputs is None:
        return None
    batch = candidate.execution.batch
    return Arm(name=candidate.name, artifact=artifact, batch=batch, reference=one.outputs, reference_row=row)


def screen(
    context: RunContext, validated: Sequence[Validated], samples: PreparedSamples, models: Mapping[str, OnnxModel]
) -> tuple[list[Candidate], Timed, tuple[str, ...]]:
    """Every candidate that can run, timed side by side; then each against the device's peak and the best float.

    Returns:
        The candidates, the traces, and why some have no roofline, a sentence each.

    """
    arms = [arm for one in validated if (arm := arm_of(one, samples.timed_row)) is not None]
    timed = Timed(measurements={}, errors={})
    if arms:
        timed = time_arms(context, arms, samples.single, stage="screen", rounds=context.recipe.search.screening_rounds)
    candidates = [with_latency(one.candidate, timed, context.recipe.budget) for one in validated]
    candidates, notes = run_rooflines(context, candidates, models, samples.single)
    return _beside_best(candidates, timed), timed, notes


def _beside_best(candidates: Sequence[Candidate], timed: Timed) -> list[Candidate]:
    """Each with its comparison with the best float, from the pairs of this experiment."""
    best = best_float(candidates)
    against: Mapping[str, Comparison] = {}
    if best is not None:
        against = compare_arms(timed, best.name, [candidate.name for candidate in candidates])
    return [replace(one, against_float=against.get(one.name)) for one in candidates]


def load_fully(
    context: RunContext, candidates: list[Candidate], validated: Sequence[Validated], samples: PreparedSamples
) -> list[Candidate]:
    """Samples per second with a call per core at once, of the candidates that may ship still; only where it is asked.

    What has streams of its own gets a call for each. These are the floats that a recipe may ship and the challengers,
    as far as nothing else refuses them.
    """
    budget, best = context.recipe.budget, best_float(candidates)
    if budget.throughput_per_s is None or best is None:
        return candidates
    judged = [judge(candidate) for candidate in candidates]
    floats = [one for one in judged if one.is_float and one.refusal is None and not is_yardstick(one)]
    wanted = {one.name for one in (*floats, *challengers(judged, best))}
    streams = {one.candidate.name: _streams(one.candidate, context.facts.cores) for one in validated}
    arms = [
        replace(arm, scenario="offline", streams=streams[arm.name])
        for one in validated
        if one.candidate.name in wanted and (arm := arm_of(one, samples.timed_row)) is not None
    ]
    if not arms:
        return candidates
    timed = time_arms(
        context, arms, samples.single, stage="throughput", rounds=context.recipe.search.screening_rounds, replaced=True
    )
    return [with_throughput(one, timed, budget, streams.get(one.name, 1)) for one in candidates]


def _streams(candidate: Candidate, cores: int) -> int:
    layout = candidate.execution.layout
    if isinstance(layout, SingleStream):
        return max(1, cores)
    return candidate.execution.calls_at_once


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What was measured again.

    Attributes:
        against: Per challenger, its comparison with each rival float.
        measurements: By arm.
        unusable: Per challenger whose measurements must not be used, why.

    """

    against: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)


def confirm(
    context: RunContext, candidates: list[Candidate], validated: Sequence[Validated], samples: PreparedSamples
) -> tuple[list[Candidate], Confirmation]:
    """Measures the leading challengers again, in fresh processes beside the floats that they must beat."""
    best = best_float(candidates)
    found = Confirmation()
    if best is None:
        return candidates, found
    arms = {one.candidate.name: arm for one in validated if (arm := arm_of(one, samples.timed_row)) is not None}
    judged = [judge(candidate) for candidate in candidates]
    leading = challengers(judged, best)
    # Measured afresh, so that having been the best of many in the screening is no advantage here.
    for number, (challenger, alpha) in enumerate(zip(leading, _CONFIRMATIONS, strict=False)):
        floats = [one.name for one in rivals(candidates)]
        stage = "confirm" if number == 0 else f"confirm {number + 1}"
        wanted = [arms[name] for name in (challenger.name, *floats)]
        least = _least_rounds(alpha)
        rounds = max(context.recipe.search.rounds, least)
        timed = time_arms(context, wanted, samples.single, stage=stage, rounds=rounds, replaced=True, least=least)
        against = {
            name: replace(comparison, again_ns=_medians_ns(timed, challenger.name, name))
            for name, comparison in _against(timed, challenger.name, floats, alpha).items()
        }
        found = Confirmation(
            against={**found.against, challenger.name: against},
            measurements={**found.measurements, **timed.measurements},
            unusable={**found.unusable, **_unusable(challenger.name, floats, timed)},
        )
        candidates = [
            with_latency(one, timed, context.recipe.budget) if one.name in timed.errors else one for one in candidates
        ]
        if gains(against):
            break
    context.clock.expected_s.pop("confirm", None)
    return candidates, found


def confirm_beside_floats(
    context: RunContext, validated: Sequence[Validated], samples: PreparedSamples, challenger: str
) -> tuple[list[Candidate], dict[str, Comparison], Confirmation]:
    """One candidate that was not chosen by its latency, timed beside all floats in one experiment that is also its
    confirmation: there was no screening whose luck would have to be undone.

    Args:
        context: Of the run.
        validated: The candidate and the floats.
        samples: Of the recipe.
        challenger: Name of the candidate.

    Returns:
        All of them with their latency, the candidate's comparison with each float, and the confirmation by the floats
        that may be the best one.

    """
    search = context.recipe.search
    arms = [arm for one in validated if (arm := arm_of(one, samples.timed_row)) is not None]
    if not arms:
        return [one.candidate for one in validated], {}, Confirmation()
    alpha = _CONFIRMATIONS[0]
    least = _least_rounds(alpha)
    rounds = max(search.rounds, least)
    context.clock.expect(confirm=rounds * len(arms) * process_s(search))
    timed = time_arms(context, arms, samples.single, stage="confirm", rounds=rounds, replaced=True, least=least)
    rows = _beside_best([with_latency(one.candidate, timed, context.recipe.budget) for one in validated], timed)
    against = _against(timed, challenger, [row.name for row in rows if row.is_float and row.refusal is None], alpha)
    floats = [row.name for row in rivals(rows)]
    if not floats or challenger not in timed.measurements:
        return rows, against, Confirmation(measurements=timed.measurements)
    confirmation = Confirmation(
        against={challenger: {name: one for name, one in against.items() if name in floats}},
        measurements=timed.measurements,
        unusable=_unusable(challenger, floats, timed),
    )
    return rows, against, confirmation


def _against(timed: Timed, challenger: str, floats: Sequence[str], alpha: float) -> dict[str, Comparison]:
    """The challenger's comparison with each float, whose interval errs with this probability."""
    return {
        name: comparison
        for name in floats
        for comparison in compare_arms(timed, name, [challenger], confidence=1 - alpha).values()
    }


def _medians_ns(timed: Timed, *names: str) -> dict[str, float]:
    """What a call of each took; empty where that is not known of one."""
    from edgeport.devices.latency.comparison import typical_ns

    found = {name: typical_ns(timed.measurements[name]) for name in names}
    return found if all(map(math.isfinite, found.values())) else {}


def _least_rounds(alpha: float) -> int:
    """Rounds without which no interval of this confidence is finite, however clear the gain."""
    return next(count for count in itertools.count(1) if least_p_value(count) <= alpha)


def _unusable(challenger: str, floats: Sequence[str], timed: Timed) -> dict[str, str]:
    """The flags for which a confirmation must not be used, if any, with the arms that have them."""
    from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of

    found = {
        name: [flag for flag in measurement_flags(one) if outcome_of([flag]) is Outcome.INVALID]
        for name, one in timed.measurements.items()
        if name in (challenger, *floats)
    }
    words = "; ".join(f"{', '.join(flags)} ({name})" for name, flags in found.items() if flags)
    return {challenger: words} if words else {}
