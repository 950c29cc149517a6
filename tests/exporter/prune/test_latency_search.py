"""The search for a latency, over devices that are computed: no clock is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import choose_counts
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, LayerCost, RemovedUnits
from edgeport.exporter.prune.latency_search import LatencyModel, Trial, prune_to_latency

UNITS = 64


def _network(layers: int = 8) -> tuple[list[GroupSpec], Costs]:
    """A chain: each layer gives what the next one reads; the last one's outputs stay."""
    random = np.random.default_rng(0)
    group_specs = [
        GroupSpec(name=f"g{index}", kind="channels", units=UNITS, scores=tuple(random.uniform(0, 2, UNITS)))
        for index in range(layers - 1)
    ]
    costs = []
    for index in range(layers):
        axes = [{f"g{index}": 1 / UNITS}] if index < layers - 1 else []
        axes += [{f"g{index - 1}": 1 / UNITS}] if index > 0 else []
        costs.append(LayerCost(name=f"l{index}", macs=1e7 * (1 + index % 3), weights=4096, axes=tuple(axes)))
    return group_specs, Costs(layers=tuple(costs))


def _device(costs: Costs, *, noise: float = 0.0, seed: int = 0) -> Callable[[RemovedUnits], float]:
    """Some layers run ten times as fast as others for each multiplication, and some time does not shrink."""
    random = np.random.default_rng(seed)
    rates = [0.1 if index % 2 else 1.0 for index in range(len(costs.layers))]

    def measure(counts: RemovedUnits) -> float:
        exact = 5e6 + sum(
            rate * layer.macs * layer.left(counts) for rate, layer in zip(rates, costs.layers, strict=True)
        )
        return exact * float(1 + noise * random.standard_normal())

    return measure


@pytest.mark.parametrize("speedup", [1.3, 2.0, 3.0])
def test_the_goal_is_met_and_not_overshot(speedup: float) -> None:
    group_specs, costs = _network()
    found = prune_to_latency(group_specs, costs, _device(costs, noise=0.01), speedup=speedup)
    assert found.reached
    assert 0.85 * found.goal_ns <= found.latency_ns <= found.goal_ns
    assert all((UNITS - count) % 8 == 0 for count in found.counts.values())


def test_a_latency_is_a_goal_too() -> None:
    group_specs, costs = _network()
    measure = _device(costs)
    goal = 0.6 * measure({})
    found = prune_to_latency(group_specs, costs, measure, latency_ns=goal)
    assert found.goal_ns == goal
    assert 0.85 * goal <= found.latency_ns <= goal


def test_it_keeps_more_than_a_choice_by_multiplications_at_equal_latency() -> None:
    group_specs, costs = _network()
    measure = _device(costs)
    found = prune_to_latency(group_specs, costs, measure, speedup=2.0)
    by_macs = choose_counts(
        group_specs,
        lambda counts: measure(counts) <= found.latency_ns,
        round_to=8,
        saving=lambda one, other: costs.macs(one) - costs.macs(other),
    )

    def kept(counts: RemovedUnits) -> float:
        return sum(sum(sorted(one.scores)[counts[one.name] :]) for one in group_specs)

    assert kept(found.counts) > kept(by_macs)


def test_what_is_fast_enough_stays_whole() -> None:
    group_specs, costs = _network()
    found = prune_to_latency(group_specs, costs, _device(costs), latency_ns=1e12)
    assert found.reached
    assert not any(found.counts.values())
    assert len(found.trials) == 1


def test_what_can_not_be_reached_gives_the_fastest() -> None:
    group_specs, costs = _network()
    found = prune_to_latency(group_specs, costs, _device(costs), speedup=100.0)
    assert not found.reached
    assert found.latency_ns == min(trial.latency_ns for trial in found.trials)


def test_nothing_goes_where_every_network_is_slower() -> None:
    group_specs, costs = _network()
    found = prune_to_latency(group_specs, costs, lambda counts: 1e6 + sum(counts.values()), speedup=2.0)
    assert not found.reached
    assert not any(found.counts.values())


def test_the_model_finds_which_layers_are_slow() -> None:
    group_specs, costs = _network()
    measure = _device(costs)
    random = np.random.default_rng(1)
    trials = []
    for _ in range(12):
        counts = {one.name: int(random.integers(0, UNITS)) for one in group_specs}
        trials.append(Trial(counts=counts, latency_ns=measure(counts)))
    model = LatencyModel.fit(costs, trials)
    for _ in range(10):
        counts = {one.name: int(random.integers(0, UNITS)) for one in group_specs}
        assert model.ns(counts) == pytest.approx(measure(counts), rel=0.1)


def test_a_goal_must_be_asked() -> None:
    group_specs, costs = _network()
    with pytest.raises(PruningError, match="no goal"):
        prune_to_latency(group_specs, costs, _device(costs))


def _flattering(measure: Callable[[RemovedUnits], float]) -> Callable[[RemovedUnits], float]:
    """A device that measures the whole rightly, and whatever is smaller too fast by a tenth."""
    return lambda counts: measure(counts) * (0.9 if any(counts.values()) else 1.0)


def test_what_meets_the_goal_by_chance_is_not_taken_for_it() -> None:
    group_specs, costs = _network()
    measure = _device(costs)
    believed = prune_to_latency(group_specs, costs, _flattering(measure), speedup=2.0)
    assert believed.reached
    assert measure(believed.counts) > believed.goal_ns
    found = prune_to_latency(group_specs, costs, _flattering(measure), confirm=measure, speedup=2.0, rounds=8)
    assert found.reached
    assert found.latency_ns == measure(found.counts)
    assert 0.85 * found.goal_ns <= found.latency_ns <= found.goal_ns


def test_what_misses_the_goal_when_measured_again_is_not_told_as_reached() -> None:
    group_specs, costs = _network()
    measure = _device(costs)
    found = prune_to_latency(group_specs, costs, measure, confirm=lambda _: measure({}), speedup=2.0)
    assert not found.reached


@pytest.mark.parametrize(("layers", "speedup"), [(8, 1.5), (8, 2.1), (5, 2.1), (4, 2.5)])
def test_what_hardly_meets_the_goal_is_not_taken_where_something_surely_meets_it(layers: int, speedup: float) -> None:
    group_specs, costs = _network(layers)
    smooth = _device(costs)
    found = prune_to_latency(group_specs, costs, lambda counts: np.ceil(smooth(counts) / 1e6) * 1e6, speedup=speedup)
    hardly = [one for one in found.trials if 0.985 * found.goal_ns < one.latency_ns <= found.goal_ns]
    assert hardly
    assert 0.85 * found.goal_ns <= found.latency_ns <= 0.985 * found.goal_ns


@pytest.mark.parametrize(
    ("layers", "noise", "round_to", "speedup"), [(3, 0.02, 8, 3.1), (4, 0.05, 16, 2.5), (4, 0.02, 8, 3.1)]
)
def test_a_network_that_missed_the_goal_is_not_the_end(
    layers: int, noise: float, round_to: int, speedup: float
) -> None:
    group_specs, costs = _network(layers)
    measure = _device(costs, noise=noise)
    found = prune_to_latency(group_specs, costs, measure, confirm=_device(costs), speedup=speedup, round_to=round_to)
    assert found.reached
    assert 0.85 * found.goal_ns <= found.latency_ns <= found.goal_ns


@pytest.mark.parametrize(("layers", "round_to", "speedup"), [(5, 16, 3.0), (6, 32, 1.8)])
def test_a_network_much_too_fast_is_not_the_end(layers: int, round_to: int, speedup: float) -> None:
    group_specs, costs = _network(layers)
    found = prune_to_latency(group_specs, costs, _device(costs), speedup=speedup, round_to=round_to)
    assert 0.85 * found.goal_ns <= found.latency_ns <= found.goal_ns


@pytest.mark.parametrize("block", [8, 16])
def test_what_is_left_fills_the_blocks_that_the_device_computes(block: int) -> None:
    group_specs, costs = _network()
    counted = _device(costs)

    def measure(counts: RemovedUnits) -> float:
        return counted({name: UNITS - -(gone - UNITS) // -block * -block for name, gone in counts.items()})

    found = prune_to_latency(group_specs, costs, measure, speedup=2.0)
    left = [UNITS - gone for one in found.trials[9:] for gone in one.counts.values()]
    assert found.reached
    assert left
    assert all(one % block == 0 for one in left)
    assert any(one % (2 * block) for one in left)
    assert found.latency_ns == pytest.approx(found.trials[-1].predicted_ns, rel=0.05)


def test_noise_of_two_networks_that_are_the_same_tells_no_block() -> None:
    """What is left of groups this small is one step, so that no network is a step apart from another."""
    group_specs, costs = _network()
    clock = iter(range(1000))

    def measure(counts: RemovedUnits) -> float:  # each measurement is a little slower than the one before
        return _device(costs)(counts) * (1 + 1e-3 * next(clock))

    found = prune_to_latency(group_specs, costs, measure, speedup=1.2, round_to=16, least=0.7)
    probes, twins, tried = found.trials[1:7], found.trials[7:9], found.trials[9:]
    assert len(probes) == 6
    assert twins[0].counts == twins[1].counts
    assert tried
    assert any((UNITS - gone) % 32 for one in tried for gone in one.counts.values())


def test_heads_count_by_their_channels_in_blocks() -> None:
    layer = LayerCost(name="l", macs=1.0, weights=1, axes=({"heads": 1 / 12}, {"gates": 1 / 24, "more": 1 / 24}))
    widths = {"heads": 64}
    assert layer.left({"heads": 5}, 16, widths) == pytest.approx(7 / 12)  # whole blocks
    assert layer.left({"heads": 5}, 16) == 1.0  # 7 channels take as long as 12
    assert layer.left({"gates": 3, "more": 6}, 16) == pytest.approx(16 / 24)
    assert layer.left({"gates": 3, "more": 4}, 16) == 1.0  # 17 take as long as 24


def test_trials_near_the_goal_count_most() -> None:
    group_specs, costs = _network()
    near, far = ({one.name: count for one in group_specs} for count in (32, 8))
    line = _device(costs)
    trials = [Trial(counts={one.name: 0 for one in group_specs}, latency_ns=line({}))]
    trials += [Trial(counts=near, latency_ns=0.8 * line(near)), Trial(counts=far, latency_ns=1.2 * line(far))]

    wrong = [
        abs(LatencyModel.fit(costs, trials, goal).ns(near) / (0.8 * line(near)) - 1)
        for goal in (None, 0.8 * line(near))
    ]

    assert wrong[1] < 0.5 * wrong[0]


@pytest.mark.parametrize(("layers", "round_to", "speedup"), [(3, 16, 1.5), (4, 32, 1.5)])
def test_a_network_by_which_was_learned_may_be_the_answer(layers: int, round_to: int, speedup: float) -> None:
    group_specs, costs = _network(layers)
    found = prune_to_latency(group_specs, costs, _device(costs), speedup=speedup, round_to=round_to)
    assert found.reached
    assert found.latency_ns <= found.goal_ns
    assert dict(found.counts) in [dict(one.counts) for one in found.trials[1:7]]  # so few networks are there


def _weighty(layers: int = 12) -> tuple[list[GroupSpec], Costs]:
    """As many multiplications in each layer, and more and more weights."""
    group_specs, costs = _network(layers)
    more = (replace(one, macs=1e7, weights=4096 * 2 ** (4 * index // layers)) for index, one in enumerate(costs.layers))
    return group_specs, Costs(layers=tuple(more))


@pytest.mark.parametrize(("noise", "trials", "within"), [(0.0, 7, 0.03), (0.01, 12, 0.35)], ids=["exact", "noisy"])
def test_a_few_networks_tell_that_weights_take_time_too(noise: float, trials: int, within: float) -> None:
    random = np.random.default_rng(0)
    group_specs, costs = _weighty()
    times = np.array([1e6 + 30.0 * layer.weights for layer in costs.layers])

    def measure(counts: RemovedUnits) -> float:
        left = np.array([layer.left(counts) for layer in costs.layers])
        return float(times @ left) * (1 + noise * random.standard_normal())

    found = prune_to_latency(group_specs, costs, measure, speedup=2.0)

    model = LatencyModel.fit(costs, found.trials[:trials])
    assert model.rates / model.rates.sum() == pytest.approx(times / times.sum(), rel=within)


def test_what_only_scatters_is_not_learned() -> None:
    """Where each multiplication takes as long, a few noisy networks make no layer slow."""
    group_specs, costs = _network(12)
    times = np.array([layer.macs for layer in costs.layers])
    apart = []
    for seed in range(5):
        random = np.random.default_rng(seed)

        def measure(counts: RemovedUnits, random: np.random.Generator = random) -> float:
            left = np.array([layer.left(counts) for layer in costs.layers])
            return (5e6 + float(times @ left)) * (1 + 0.03 * random.standard_normal())

        found = prune_to_latency(group_specs, costs, measure, speedup=2.0, rounds=1)
        rates = LatencyModel.fit(costs, found.trials[:7]).rates
        apart.append(float(np.abs(rates / rates.sum() / (times / times.sum()) - 1).max()))
    assert np.median(apart) < 0.3


def test_probes_cut_in_turn_more_of_what_has_few_weights_and_of_what_has_many() -> None:
    group_specs, costs = _weighty()
    found = prune_to_latency(group_specs, costs, lambda counts: 1e6 - sum(counts.values()), speedup=2.0, rounds=0)
    cut = [[probe.counts[one.name] for one in group_specs] for probe in found.trials[1:7]]
    more = [np.mean(counts[-4:]) > np.mean(counts[:4]) for counts in cut]
    assert more == [False, True, False, True, False, True]


def test_probes_differ_where_units_go_in_wide_steps() -> None:
    group_specs, costs = _network(4)
    found = prune_to_latency(group_specs, costs, _device(costs), speedup=2.0, round_to=32)
    seen = [tuple(sorted(one.counts.items())) for one in found.trials if not one.predicted_ns]
    assert len(set(seen)) == len(seen)


def test_of_what_is_fast_enough_the_one_that_loses_least_is_taken() -> None:
    group_specs, costs = _network()
    measure = _device(costs)
    asked: list[RemovedUnits] = []

    def losses(several: Sequence[RemovedUnits]) -> list[float]:
        asked.extend(several)
        return [float(max(counts.values())) for counts in several]  # what is spread loses less

    by_loss = prune_to_latency(group_specs, costs, measure, losses=losses, speedup=2.0)
    by_score = prune_to_latency(group_specs, costs, measure, speedup=2.0)

    assert by_loss.reached
    assert 0.85 * by_loss.goal_ns <= by_loss.latency_ns <= by_loss.goal_ns
    assert losses([by_loss.counts])[0] < losses([by_score.counts])[0]
    keys = [tuple(sorted(one.items())) for one in asked[:-2]]
    assert len(set(keys)) == len(keys), "each is judged once"


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    group_specs, costs = _network()
    asked: list[list[RemovedUnits]] = []

    def losses(several: Sequence[RemovedUnits]) -> list[float]:
        asked.append(list(several))
        return [np.nan] * (len(several) - 1) + [1.0]

    found = prune_to_latency(group_specs, costs, _device(costs), losses=losses, speedup=2.0, rounds=1)
    assert found.trials[-1].counts == asked[0][-1]


def test_multiplications_propose_too() -> None:
    group_specs, costs = _network()
    asked: list[list[RemovedUnits]] = []

    def losses(several: Sequence[RemovedUnits]) -> list[float]:
        asked.append(list(several))
        return [0.0] * len(several)

    prune_to_latency(group_specs, costs, _device(costs), losses=losses, speedup=2.0, rounds=1)
    assert len(asked[0]) > 3  # so many by the time that is saved


def test_the_order_in_which_scores_are_told_makes_no_difference() -> None:
    group_specs, costs = _network()
    turned = [replace(one, scores=tuple(reversed(one.scores))) for one in group_specs]

    def losses(several: Sequence[RemovedUnits]) -> list[float]:
        return [float(max(counts.values())) for counts in several]

    one, other = (
        prune_to_latency(these, costs, _device(costs), losses=losses, speedup=2.0) for these in (group_specs, turned)
    )
    assert one.trials == other.trials


def test_of_those_that_met_the_goal_the_one_that_loses_least_is_the_answer() -> None:
    """The first, which was much too fast, loses less here than the second; no network is judged twice for that."""
    group_specs, costs = _network()
    asked: list[tuple[tuple[str, int], ...]] = []
    device = _device(costs)
    told = iter([device({}) * share for share in (0.3, 0.47)])
    probes = iter(range(9))

    def losses(several: Sequence[RemovedUnits]) -> list[float]:
        asked.extend(tuple(sorted(one.items())) for one in several)
        return [-float(sum(one.values())) for one in several]

    def measure(counts: RemovedUnits) -> float:
        return device(counts) if next(probes, None) is not None else next(told)

    found = prune_to_latency(group_specs, costs, measure, losses=losses, speedup=2.0)
    first, second = found.trials[9:]
    assert losses([first.counts]) < losses([second.counts])
    assert found.counts == first.counts
    assert len(set(asked[:-2])) == len(asked[:-2])
