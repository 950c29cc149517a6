"""How much goes from where so that a latency is met: measured, modelled, chosen, and measured again. No torch.

The model of latency is a time for what does not shrink and, for each layer, a time for each of its multiplications:
L = t0 + sum over layers of r * MACs. Its times are at least zero, fitted to what was measured, and pulled to one common
rate where that says nothing. What every layer would save is thus learned from a few whole networks, which the device
runs as it will run the result. Choosing by measured rather than by counted cost: Yang et al., "NetAdapt" (2018); as a
problem of importance against latency: Shen et al., "Structural Pruning via Latency-Saliency Knapsack" (2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeport.errors import PruningError
from edgeport.exporter.prune.choosing import Scope, choose_counts
from edgeport.exporter.prune.costs import Costs, Counts, Outline

__all__ = ["Budgeted", "LatencyModel", "Measure", "Trial", "prune_to_latency"]

Measure = Callable[[Counts], float]
"""Median latency in ns of the network without so many units of each group, on the target."""

_RIDGE = 0.05
"""How strongly rates of layers are pulled to the common one, against errors relative to the latency."""

_NEAR = 0.9
"""A latency from here to the goal is near enough to stop."""

_SURE = 0.985
"""Up to here of the goal, what is measured once more scatters below it."""

_AIM = 0.97
"""Of the goal; what is measured scatters around what is predicted."""

_LOWER = 0.98
"""What the aim is lowered by where it leads to a network that is known to miss the goal."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A network that was measured.

    Attributes:
        counts: Units that are gone, by group.
        latency_ns: Its median; of one that met the goal, as it was measured once more.
        predicted_ns: What the model said before; 0 where there was none.

    """

    counts: Counts
    latency_ns: float
    predicted_ns: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """See the module.

    Attributes:
        costs: The layers.
        constant_ns: For what does not shrink.
        rates: Nanoseconds for each layer with all units there.

    """

    costs: Costs
    constant_ns: float
    rates: NDArray[np.float64]

    @staticmethod
    def fit(costs: Costs, trials: Sequence[Trial]) -> LatencyModel:
        """Least squares of relative errors, with times of at least zero."""
        from scipy.optimize import nnls

        shares = np.array([[layer.left(trial.counts) for layer in costs.layers] for trial in trials])
        measured = np.array([trial.latency_ns for trial in trials])
        macs = np.array([layer.macs for layer in costs.layers])
        weight = macs / macs.sum()
        # Unknowns: the constant, a common rate for all multiplications, and what each layer takes.
        ones, zeros = np.ones((len(trials), 1)), np.zeros((len(trials), 1))
        fit = np.hstack([ones, zeros, shares]) / measured[:, None]
        pull = np.hstack([np.zeros((len(macs), 1)), -np.ones((len(macs), 1)), np.diag(1.0 / weight)])
        pull *= _RIDGE * np.sqrt(weight)[:, None] / measured.max()
        found, _ = nnls(np.vstack([fit, pull]), np.concatenate([np.ones(len(trials)), np.zeros(len(macs))]))
        return LatencyModel(costs=costs, constant_ns=float(found[0]), rates=found[2:])

    def ns(self, counts: Counts) -> float:
        """What the network without these units would take."""
        left = np.array([layer.left(counts) for layer in self.costs.layers])
        return self.constant_ns + float(self.rates @ left)


@dataclass(frozen=True, kw_only=True)
class Budgeted:
    """What was found for a latency.

    Attributes:
        counts: Units that go, by group; none where nothing that was measured is faster.
        latency_ns: That was measured with them.
        before_ns: That was measured without.
        goal_ns: That was asked.
        reached: The goal is met.
        trials: All that was measured, in order.

    """

    counts: Counts
    latency_ns: float
    before_ns: float
    goal_ns: float
    reached: bool
    trials: tuple[Trial, ...]


def prune_to_latency(  # noqa: PLR0913 (a search has these choices)
    outlines: Sequence[Outline],
    costs: Costs,
    measure: Measure,
    *,
    confirm: Measure | None = None,
    latency_ns: float | None = None,
    speedup: float | None = None,
    round_to: int = 8,
    least: float = 0.1,
    probes: int = 6,
    rounds: int = 5,
    seed: int = 0,
) -> Budgeted:
    """Finds the units whose removal meets the goal and costs the least of their scores.

    Of several networks around the goal, the one that happened to be measured too fast is the likeliest to seem to meet
    it. So what meets it is measured once more, and counts by that alone.

    Args:
        outlines: Groups with their scores.
        costs: What layers cost.
        measure: Asked for the whole network first, then for each trial.
        confirm: Measures a network that met the goal anew; where there is none, the first measurement counts.
        latency_ns: The goal.
        speedup: Instead: over the whole network.
        round_to: As in `Units`.
        least: As in `Units`.
        probes: Networks, cut at random, that the model is first fitted to.
        rounds: Choices that are measured; each corrects the model.
        seed: Of the probes.

    Returns:
        The trial with the most left that meets the goal; where none does, the fastest one, unless the whole is faster.

    Raises:
        PruningError: Neither a latency nor a speedup is asked.

    """
    whole = {one.name: 0 for one in outlines}
    before = measure(whole)
    if latency_ns is None and speedup is None:
        raise PruningError(asked="prune for a latency", found="no goal", fix="give latency_ns or speedup")
    goal = latency_ns if latency_ns is not None else before / (speedup or 1.0)
    trials = [Trial(counts=whole, latency_ns=before)]
    if before <= goal:
        return Budgeted(
            counts=whole, latency_ns=before, before_ns=before, goal_ns=goal, reached=True, trials=tuple(trials)
        )
    random = np.random.default_rng(seed)
    for index in range(probes):
        counts = _probe(outlines, random, round_to, least, (index + 1) / (probes + 1))
        trials.append(Trial(counts=counts, latency_ns=measure(counts)))
    aim = goal * _AIM
    tried: list[Trial] = []
    for _ in range(rounds):
        model = LatencyModel.fit(costs, trials)
        counts = _chosen(outlines, model, aim, round_to, least)
        known = next((one for one in (trials[0], *tried) if dict(one.counts) == dict(counts)), None)
        if known is not None and known.latency_ns <= goal:
            break
        if known is not None:
            aim *= _LOWER
            continue
        latency = measure(counts)
        if confirm is not None and latency <= goal:
            latency = confirm(counts)
        trial = Trial(counts=counts, latency_ns=latency, predicted_ns=model.ns(counts))
        trials.append(trial)
        tried.append(trial)
        if _NEAR * goal <= latency <= _SURE * goal:
            break
        aim *= goal * (_NEAR + _SURE) / 2 / latency
    return _best(outlines, trials, tried, goal)


def _probe(
    outlines: Sequence[Outline], random: np.random.Generator, round_to: int, least: float, share: float
) -> dict[str, int]:
    """Groups cut at random, around a share that grows from probe to probe, in steps that the target likes."""
    counts: dict[str, int] = {}
    for one in outlines:
        wanted = one.units * float(np.clip(share + random.uniform(-0.3, 0.3), 0.0, 1.0 - least))

        def enough(counts: Counts, name: str = one.name, wanted: float = wanted) -> bool:
            return counts[name] >= wanted

        counts |= choose_counts([one], enough, round_to=round_to, least=least, far=True)
    return counts


def _chosen(
    outlines: Sequence[Outline], model: LatencyModel, aim: float, round_to: int, least: float
) -> dict[str, int]:
    return choose_counts(
        outlines,
        lambda counts: model.ns(counts) <= aim,
        scope=Scope.GLOBAL,
        round_to=round_to,
        least=least,
        saving=lambda one, other: model.ns(one) - model.ns(other),
        far=True,
    )


def _best(outlines: Sequence[Outline], trials: Sequence[Trial], tried: Sequence[Trial], goal: float) -> Budgeted:
    before = trials[0]
    meeting = [one for one in tried if one.latency_ns <= _SURE * goal]
    meeting = meeting or [one for one in tried if one.latency_ns <= goal]
    if meeting:
        best = max(meeting, key=lambda one: _kept(outlines, one.counts))
    else:
        best = min([before, *tried], key=lambda one: one.latency_ns)
    return Budgeted(
        counts=best.counts,
        latency_ns=best.latency_ns,
        before_ns=before.latency_ns,
        goal_ns=goal,
        reached=bool(meeting),
        trials=tuple(trials),
    )


def _kept(outlines: Sequence[Outline], counts: Counts) -> float:
    """Scores of what is left."""
    return sum(sum(sorted(one.scores)[counts.get(one.name, 0) :]) for one in outlines)
