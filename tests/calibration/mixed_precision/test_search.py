"""The search for the fastest plan within a budget, over planted noise and planted latencies."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.calibration.mixed_precision.groups import NodeGroup
from edgeport.calibration.mixed_precision.search import Kept, search
from edgeport.contracts import Interval

NAMES = "abcdefgh"


def groups(names=NAMES):
    """A chain."""
    return [
        NodeGroup(
            name=name,
            nodes=(name,),
            beside=tuple(names[index] for index in (at - 1, at + 1) if 0 <= index < len(names)),
        )
        for at, name in enumerate(names)
    ]


@dataclass
class Planted:
    """A model whose noise and latency are known: sums over groups, and what `joint` adds where several are integers.

    Attributes:
        noise: Of each group as integers.
        saved: Microseconds that a call is shorter with the group as integers; below 0 it is longer.
        allowed: Noise that the budget lets.
        joint: Groups to the noise that they make only together.

    """

    noise: dict[str, float]
    saved: dict[str, float] = field(default_factory=dict)
    allowed: float = 1.0
    joint: dict[str, float] = field(default_factory=dict)
    judged: list[Kept] = field(default_factory=list)
    timed: list[Kept] = field(default_factory=list)

    def total(self, kept):
        alone = sum(noise for name, noise in self.noise.items() if name not in kept)
        return alone + sum(noise for names, noise in self.joint.items() if not kept & set(names))

    def latency(self, kept):
        return 1000.0 - sum(saved for name, saved in self.saved.items() if name not in kept)

    def holds(self, kept):
        self.judged.append(kept)
        return self.total(kept) <= self.allowed

    def speedups(self, base, others):
        self.timed += others
        ratios = {kept: self.latency(base) / self.latency(kept) for kept in others}
        return {kept: Interval(low=one - 0.002, estimate=one, high=one + 0.002) for kept, one in ratios.items()}

    def found(self, names=NAMES):
        return [*search(groups(names), self.noise, self)][-1]

    def best_of_all(self):
        plans = [frozenset(chosen) for count in range(len(NAMES)) for chosen in itertools.combinations(NAMES, count)]
        return min((plan for plan in plans if self.total(plan) <= self.allowed), key=self.latency)


def quiet(**loud):
    return dict.fromkeys(NAMES, 0.01) | loud


def same(saved=10.0, **other):
    return dict.fromkeys(NAMES, saved) | other


@pytest.mark.parametrize(
    ("planted", "best"),
    [
        pytest.param(Planted(quiet(), same()), "", id="int8 holds as it is"),
        pytest.param(Planted(quiet(d=5.0), same()), "d", id="one group ruins it"),
        pytest.param(Planted(quiet(b=3.0, d=5.0, g=2.0), same()), "bdg", id="three groups ruin it"),
        pytest.param(Planted(dict.fromkeys(NAMES, 5.0) | {"c": 0.1}, same()), "abdefgh", id="one may be integer"),
        # The loud pair is heard only together; neither is worth a word alone.
        pytest.param(Planted(quiet(), same(), joint={"be": 9.0}), "b", id="two groups ruin it together"),
        # Loudest is d, and it saves ten times as much as b; without b alone the budget would hold too.
        pytest.param(Planted(quiet(d=0.9, b=0.85), same(d=100.0)), "b", id="the loudest is the dearest"),
        pytest.param(Planted(quiet(), same(e=-50.0)), "e", id="a group is slower as integers"),
        pytest.param(Planted(quiet(d=5.0), same(e=-50.0, f=-30.0)), "def", id="ruined, and slower beside it"),
    ],
)
def test_the_known_best_is_found(planted, best):
    found = planted.found()
    assert (found.best, found.step) == (frozenset(best), "")
    if not planted.joint:
        assert planted.latency(found.best) == planted.latency(planted.best_of_all())


def test_nothing_holds():
    planted = Planted(dict.fromkeys(NAMES, 5.0))
    assert planted.found().best is None
    assert not planted.timed, "there is nothing to be timed"


@pytest.mark.parametrize("names", ["", "a"])
def test_models_with_hardly_anything_to_choose(names):
    assert Planted(dict.fromkeys(names, 0.1)).found(names).best == frozenset()
    assert Planted(dict.fromkeys(names, 5.0), allowed=-1.0).found(names).best is None


def test_no_question_is_asked_twice_and_they_are_few():
    names = [f"{number:03}" for number in range(200)]
    planted = Planted({name: 9.0 if name in ("007", "100", "150") else 0.001 for name in names})
    found = planted.found(names)
    assert found.best == {"007", "100", "150"}
    assert len(planted.judged) == len(set(planted.judged)) <= 12


def test_it_stands_with_something_from_the_first_plan_that_holds():
    planted = Planted(quiet(b=3.0, d=5.0), same(f=-40.0))
    standings = [*search(groups(), planted.noise, planted)]
    known = [standing.best for standing in standings]
    assert known[0] is None
    first = known.index(frozenset("bd"))
    assert list(dict.fromkeys(known[first:])) == [frozenset("bd"), frozenset("bdf")]
    assert all(standing.plans for standing in standings[:-1]), "each says what comes next"


def test_a_search_that_is_stopped_goes_on_to_the_same_end():
    """What was answered is remembered by whoever asks: the second search is given it at once."""
    planted = Planted(quiet(b=3.0, d=5.0), same(f=-40.0))
    whole = [*search(groups(), planted.noise, planted)]
    again = Planted(quiet(b=3.0, d=5.0), same(f=-40.0))
    stopped = [*itertools.islice(search(groups(), again.noise, again), 4)]
    assert stopped == whole[:4]
    assert [*search(groups(), again.noise, again)] == whole


@given(
    noise=st.lists(st.floats(0, 1), min_size=8, max_size=8),
    saved=st.lists(st.floats(-20, 60), min_size=8, max_size=8),
    allowed=st.floats(0, 4),
)
def test_what_is_found_holds_and_is_no_slower_than_the_first_that_held(noise, saved, allowed):
    planted = Planted(dict(zip(NAMES, noise, strict=True)), dict(zip(NAMES, saved, strict=True)), allowed=allowed)
    standings = [*search(groups(), planted.noise, planted)]
    best = standings[-1].best
    if best is None:
        return
    assert planted.total(best) <= allowed
    ladder = [one for one in standings if one.best is not None and one.step == "time"]
    if ladder:
        assert planted.latency(best) <= planted.latency(ladder[0].best)
