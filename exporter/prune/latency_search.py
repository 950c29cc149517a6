"""How much goes from where so that a latency is met: measured, modelled, chosen, and measured again. No torch.

The model of latency is a time for what does not shrink and, for each layer, a time for what is left of it:
L = t0 + sum over layers of r * left. Its times are at least zero and fitted to what was measured. A few networks do not
tell the times of all layers apart, so they are pulled to two common rates, of a multiplication and of a weight, since a
layer takes as long as it computes or as its weights take to arrive (Williams et al., "Roofline", 2009). What each layer
would save is thus learned from a few whole networks, which the device runs as it will run the result. Those near the
goal count most, since no device is quite as the model says, and it is asked there alone.

Runtimes compute channels in blocks, for instance in as many as a vector register holds (16 float32 with AVX-512), so
that a layer with one channel more takes as long as one with a block more. Two networks that are a step apart in every
group tell whether such a step saves what it should; where it does not, the model counts in blocks of two steps, and
what is proposed leaves whole ones.

Scores add up as if units did not need each other, which holds the less the more of a layer is gone. So several networks
are proposed that the model says are fast enough, by other prices of the same scores, and the one that loses least on
other samples is measured. Choosing by what was measured, not by what was counted, and among proposals by what they
lose: Yang et al., "NetAdapt" (2018); as importance against latency: Shen et al., "Structural Pruning via
Latency-Saliency Knapsack" (2022).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import choose_counts
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, RemovedUnits

__all__ = ["MOST_TRIALS", "Budgeted", "LatencyModel", "Losses", "Measure", "Trial", "prune_to_latency"]

Measure = Callable[[RemovedUnits], float]
"""Median latency in ns of the network without so many units of each group, on the target."""

Losses = Callable[[Sequence[RemovedUnits]], Sequence[float]]
"""Of each network without so many units of each group, on samples; less is better."""

_RIDGES = (1.0, 0.5, 0.2, 0.1, 0.05)
"""How strongly times of layers are pulled to what the common rates say, against errors relative to the latency."""

MOST_TRIALS = 17
"""Of a search: the whole network, six probes, two a step apart, eight choices; what is measured again counts once."""

_ENOUGH = 6
"""Trials from which on it can be judged how strongly; with fewer, as strongly as may be."""

_PROBES = 6
"""Networks that the model is first fitted to; fewer where there are not so many."""

_SHARES = (0.1, 0.6)
"""Of its units, what a probe loses: from little to most of its multiplications."""

_SAVED = 0.5
"""Of what a step in every group should save, what it saves at least where channels count one by one."""

_TELLING = 0.05
"""Share of the latency that such a step should save at least, or noise would answer."""

_TILT = 0.7
"""How much more of that the group with the most weights for its multiplications loses, or how much less, in turn."""

_POWERS = (0.0, 1.0, 2.0)
"""How much dearer units get as their group empties."""

_DRAWS = 4
"""Times as many probes are drawn at most, where units go in steps so wide that many draws are the same."""

_SCATTER = 0.1
"""What a group loses is drawn from as much around its share."""

_NEAR = 0.9
"""A latency from here to the goal is near enough to stop."""

_SURE = 0.985
"""Up to here of the goal, what is measured once more scatters below it."""

_AIM = (_NEAR + _SURE) / 2
"""Of the goal; what is measured scatters around what is predicted."""

_WIDTH = 0.25
"""How far from the goal, as a logarithm of latencies, a trial counts half in the fit."""

_NEIGHBOURS = 0.1
"""How far from it what the model is wrong by counts half for what it will be wrong by."""

_STEP = 0.98
"""What the aim is lowered or raised by where it leads to networks alone that were measured."""

_LOOKS = 3
"""Times as many choices at most are looked at as are measured."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A network that was measured.

    Attributes:
        counts: Units that are gone, by group.
        latency_ns: Its median; of one that met the goal, as it was measured once more.
        predicted_ns: What the model said before; 0 where there was none.

    """

    counts: RemovedUnits
    latency_ns: float
    predicted_ns: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """See the module.

    Attributes:
        costs: The layers.
        block: Channels that the device computes at once.
        widths: Channels in each unit, by group; one where it is not said.
        constant_ns: For what does not shrink.
        rates: Nanoseconds of each layer with all units there.

    """

    costs: Costs
    block: int = 1
    widths: Mapping[str, int] = field(default_factory=dict)
    constant_ns: float = 0.0
    rates: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @staticmethod
    def fit(
        costs: Costs,
        trials: Sequence[Trial],
        goal_ns: float | None = None,
        *,
        block: int = 1,
        widths: Mapping[str, int] | None = None,
    ) -> LatencyModel:
        """Least squares of relative errors, with times of at least zero.

        How strongly times are pulled to the common rates is what predicts each trial best from all the others.

        Args:
            costs: The layers.
            trials: What was measured.
            goal_ns: Trials near it count most; where there is none, all count alike.
            block: Channels that the device computes at once.
            widths: Channels in each unit, by group; one where it is not said.

        """
        counting = np.ones(len(trials)) if goal_ns is None else _nearness(trials, goal_ns, _WIDTH)
        model = LatencyModel(costs=costs, block=block, widths=widths or {})

        def missed(pull: float) -> float:
            others = [[other for other in range(len(trials)) if other != index] for index in range(len(trials))]
            models = [model.fitted([trials[one] for one in some], counting[some], pull) for some in others]
            errors = [other.ns(one.counts) / one.latency_ns - 1 for other, one in zip(models, trials, strict=True)]
            return float(np.average(np.square(errors), weights=counting))

        pull = min(_RIDGES, key=missed) if len(trials) >= _ENOUGH else _RIDGES[0]
        return model.fitted(trials, counting, pull)

    def fitted(self, trials: Sequence[Trial], counting: NDArray[np.float64], strength: float) -> LatencyModel:
        """With times of these trials, each of which counts so much; pulled so strongly to the common rates."""
        from scipy.optimize import nnls

        layers = self.costs.layers
        shares = np.array([self._left(trial.counts) for trial in trials])
        measured = np.array([trial.latency_ns for trial in trials])
        root = np.sqrt(counting)
        macs, weights = (np.array([getattr(layer, kind) for layer in layers], float) for kind in ("macs", "weights"))
        macs, weights = macs / max(macs.sum(), 1.0), weights / max(weights.sum(), 1.0)
        # Unknowns: the constant, common times of all multiplications and all weights, and what each layer takes.
        nothing = np.zeros((len(trials), 2))
        fit = np.hstack([np.ones((len(trials), 1)), nothing, shares]) * (root / measured)[:, None]
        pull = np.hstack([np.zeros((len(macs), 1)), -macs[:, None], -weights[:, None], np.eye(len(macs))])
        pull *= strength / np.sqrt(np.maximum((macs + weights) / 2, 1e-9))[:, None] / measured.max()
        found, _ = nnls(np.vstack([fit, pull]), np.concatenate([root, np.zeros(len(macs))]))
        return replace(self, constant_ns=float(found[0]), rates=found[3:])

    def _left(self, counts: RemovedUnits) -> NDArray[np.float64]:
        return np.array([layer.left(counts, self.block, self.widths) for layer in self.costs.layers])

    def ns(self, counts: RemovedUnits) -> float:
        """What the network without these units would take."""
        return self.constant_ns + float(self.rates @ self._left(counts))


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

    counts: RemovedUnits
    latency_ns: float
    before_ns: float
    goal_ns: float
    reached: bool
    trials: tuple[Trial, ...]


def prune_to_latency(  # noqa: PLR0913 (a search has these choices)
    group_specs: Sequence[GroupSpec],
    costs: Costs,
    measure: Measure,
    *,
    confirm: Measure | None = None,
    losses: Losses | None = None,
    latency_ns: float | None = None,
    speedup: float | None = None,
    round_to: int = 8,
    least: float = 0.1,
    rounds: int = 8,
) -> Budgeted:
    """Finds the units whose removal meets the goal and costs the least of their scores.

    Of several networks around the goal, the one that happened to be measured too fast is the likeliest to seem to meet
    it. So what meets it is measured once more, and counts by that alone.

    Args:
        group_specs: Groups with their scores.
        costs: What layers cost.
        measure: Asked for the whole network first, then for each trial.
        confirm: Measures a network that met the goal anew; where there is none, the first measurement counts.
        losses: Judges what is proposed; where there is none, scores do.
        latency_ns: The goal.
        speedup: Instead: over the whole network.
        round_to: What is left of a group is a multiple of this many channels at least; see `Units`.
        least: As in `Units`.
        rounds: Choices that are measured at most; each corrects the model.

    Returns:
        The trial that meets the goal and loses least, or has the most left; where none does, the fastest one, unless
        the whole is faster.

    Raises:
        PruningError: Neither a latency nor a speedup is asked.

    """
    whole = {one.name: 0 for one in group_specs}
    before = measure(whole)
    if latency_ns is None and speedup is None:
        raise PruningError(asked="prune for a latency", found="no goal", fix="give latency_ns or speedup")
    goal = latency_ns if latency_ns is not None else before / (speedup or 1.0)
    trials = [Trial(counts=whole, latency_ns=before)]
    if before <= goal:
        return Budgeted(
            counts=whole, latency_ns=before, before_ns=before, goal_ns=goal, reached=True, trials=tuple(trials)
        )
    widths = {one.name: one.width for one in group_specs}
    cut = _probes(group_specs, costs, round_to, least)
    trials += [Trial(counts=counts, latency_ns=measure(counts)) for counts in cut]
    block = round_to
    if len(cut) == _PROBES:
        twins = _twins(group_specs, cut[_PROBES // 2], round_to, least)
        trials += [Trial(counts=counts, latency_ns=measure(counts)) for counts in twins]
        block = _block(costs, trials, round_to)
    tried: list[Trial] = []
    ranking = _LossRanking(group_specs, losses)
    model = LatencyModel.fit(costs, trials, goal, block=block, widths=widths)
    aim = _aimed(model, tried, goal)
    for _ in range(_LOOKS * rounds):
        proposed = _proposed(group_specs, model, aim, least, several=losses is not None)
        known = {_key(one.counts): one for one in (trials[0], *tried)}
        new = [counts for counts in proposed if _key(counts) not in known]
        if not new:
            too_fast = known[_key(ranking.best(proposed))].latency_ns <= goal
            aim *= 1 / _STEP if too_fast else _STEP
            continue
        counts = ranking.best(new)
        latency = measure(counts)
        if confirm is not None and latency <= goal:
            latency = confirm(counts)
        trial = Trial(counts=counts, latency_ns=latency, predicted_ns=model.ns(counts))
        trials.append(trial)
        tried.append(trial)
        if _NEAR * goal <= latency <= _SURE * goal or len(tried) == rounds:
            break
        model = LatencyModel.fit(costs, trials, goal, block=block, widths=widths)
        aim = _aimed(model, tried, goal)
    return _best(ranking, trials, tried, goal)


def _probes(group_specs: Sequence[GroupSpec], costs: Costs, round_to: int, least: float) -> list[dict[str, int]]:
    """Networks cut by more and more; in turn, mostly where weights are many for the multiplications, or few.

    What goes from groups at random goes from all alike, which tells what multiplications take from what weights take
    by little.
    """
    random = np.random.default_rng(0)
    order = sorted(range(len(group_specs)), key=lambda index: _weights_per_mac(costs, group_specs[index].name))
    place = {group_specs[index].name: 2 * rank / max(len(order) - 1, 1) - 1 for rank, index in enumerate(order)}
    found: list[dict[str, int]] = []
    for index in range(_DRAWS * _PROBES):
        share = _SHARES[0] + (_SHARES[1] - _SHARES[0]) * (index % _PROBES + 0.5) / _PROBES
        tilt = _TILT if index % 2 else -_TILT
        counts: dict[str, int] = {}
        for one in group_specs:
            lost = share * (1 + tilt * place[one.name]) + random.uniform(-_SCATTER, _SCATTER)
            wanted = one.units * float(np.clip(lost, 0.0, 1.0 - least)) - round_to / one.width / 2  # the nearest step

            def enough(counts: RemovedUnits, name: str = one.name, wanted: float = wanted) -> bool:
                return counts[name] >= wanted

            counts |= choose_counts([one], enough, round_to=round_to, least=least, far=True)
        if any(counts.values()) and counts not in found:
            found.append(counts)
        if len(found) == _PROBES:
            break
    return found


def _nearness(trials: Sequence[Trial], goal: float, half: float) -> NDArray[np.float64]:
    """1 at the goal, 0.5 where the logarithm of the latency is as far from it as `half`."""
    away = np.log([one.latency_ns / goal for one in trials]) / half
    return np.asarray(1 / (1 + away**2), np.float64)


def _aimed(model: LatencyModel, tried: Sequence[Trial], goal: float) -> float:
    """What the model has to say of a network that meets the goal, as wrong as it is of those tried near it."""
    if not tried:
        return goal * _AIM
    wrong = np.log([model.ns(one.counts) / one.latency_ns for one in tried])
    return goal * _AIM * float(np.exp(np.average(wrong, weights=_nearness(tried, goal, _NEIGHBOURS))))


def _twins(group_specs: Sequence[GroupSpec], like: RemovedUnits, round_to: int, least: float) -> list[dict[str, int]]:
    """Two networks, of which the second has a step less in every group; the first has whole blocks of two steps."""
    found: list[dict[str, int]] = [{}, {}]
    for one in group_specs:
        step = max(round_to // math.gcd(round_to, one.width), 1)
        left = (one.units - like[one.name]) // (2 * step) * 2 * step
        fits = left - step >= max(step, math.ceil(least * one.units))
        for twin, less in zip(found, (0, step), strict=True):
            twin[one.name] = one.units - left + less if fits else like[one.name]
    return found


def _block(costs: Costs, trials: Sequence[Trial], round_to: int) -> int:
    """Channels that the device computes at once, as the last two trials tell: one step, or two."""
    *others, more, less = trials
    model = LatencyModel.fit(costs, others)
    expected = model.ns(more.counts) / model.ns(less.counts) - 1
    saved = more.latency_ns / less.latency_ns - 1
    return 2 * round_to if expected >= _TELLING and saved < _SAVED * expected else round_to


def _weights_per_mac(costs: Costs, group: str) -> float:
    """Of the layers that units of the group are part of."""
    layers = [layer for layer in costs.layers if any(group in axis for axis in layer.axes)]
    return sum(layer.weights for layer in layers) / max(sum(layer.macs for layer in layers), 1.0)


def _proposed(
    group_specs: Sequence[GroupSpec], model: LatencyModel, aim: float, least: float, *, several: bool
) -> list[dict[str, int]]:
    """By what is saved of the time or of the multiplications, with scores as they are or dearer as a group empties.

    The first is by time and scores as they are; where not several are asked, it is the only one.
    """
    costs = model.costs
    savings: list[Callable[[RemovedUnits, RemovedUnits], float]] = [
        lambda one, other: model.ns(one) - model.ns(other),
        lambda one, other: costs.macs(one) - costs.macs(other),
    ]
    found: list[dict[str, int]] = []
    for saving, power in itertools.islice(itertools.product(savings, _POWERS), None if several else 1):
        counts = choose_counts(
            [_dearer(one, power) for one in group_specs],
            lambda counts: model.ns(counts) <= aim,
            round_to=model.block,
            least=least,
            saving=saving,
            far=True,
        )
        if counts not in found:
            found.append(counts)
    return found


def _dearer(group_spec: GroupSpec, power: float) -> GroupSpec:
    """Each score, in ascending order, times (units over those still there when it is its turn) to the power."""
    scores = np.sort(np.asarray(group_spec.scores, np.float64))
    left = np.arange(len(scores), 0, -1)
    return replace(group_spec, scores=tuple((scores * (len(scores) / left) ** power).tolist()))


class _LossRanking:
    """Which network is best of several: by their losses, each asked for once; without such, by the scores left."""

    def __init__(self, group_specs: Sequence[GroupSpec], losses: Losses | None) -> None:
        self._group_specs, self._losses = group_specs, losses
        self._known: dict[tuple[tuple[str, int], ...], float] = {}

    def best(self, proposed: Sequence[RemovedUnits]) -> RemovedUnits:
        """The first of equals."""
        keys = [_key(counts) for counts in proposed]
        new = {key: counts for key, counts in zip(keys, proposed, strict=True) if key not in self._known}
        if len(proposed) > 1 and new:
            found = [-_kept(self._group_specs, one) for one in new.values()]
            if self._losses is not None:
                found = [loss if np.isfinite(loss) else np.inf for loss in self._losses(list(new.values()))]
            self._known |= dict(zip(new, found, strict=True))
        return min(zip(keys, proposed, strict=True), key=lambda one: self._known.get(one[0], 0.0))[1]


def _best(ranking: _LossRanking, trials: Sequence[Trial], tried: Sequence[Trial], goal: float) -> Budgeted:
    before = trials[0]
    meeting = [one for one in tried if one.latency_ns <= _SURE * goal]
    meeting = meeting or [one for one in tried if one.latency_ns <= goal]
    if meeting:
        counts = ranking.best([one.counts for one in meeting])
        best = next(one for one in meeting if one.counts == counts)
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


def _key(counts: RemovedUnits) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items()))


def _kept(group_specs: Sequence[GroupSpec], counts: RemovedUnits) -> float:
    """Scores of what is left."""
    return sum(sum(sorted(one.scores)[counts.get(one.name, 0) :]) for one in group_specs)
