"""The fastest plan within an accuracy budget, and the best so far at any time.

1. The ladder. Groups in the order of their sensitivity: full int8 is tried first, then the most sensitive ones are left
   in float, 1, 2, 4, 8, ... of them until the budget holds; halving finds the least number that does.
2. Handing back. Whatever can be integer again is: all but one group at first, then halves of the rest (delta debugging,
   Zeller and Hildebrandt 2002, https://doi.org/10.1109/32.988498). What stays in float is needed.
3. Exchanging. A float group without which a call is faster, as measured, is handed back, and the next in the order of
   sensitivity take its place, as few as the sum of their noise asks for.
4. Leaving more in float. Where a call is surely faster with one more group in float, that is what is done: integers
   alone between floats cost a conversion on each side, and some kernels are slower as integers.

Steps 1 and 2 rest on accuracy alone, for fewer floats are nearly always faster; steps 3 and 4 take only what is surely
faster by measured latency. Nothing here runs or times anything: two callables do, and what they answered is remembered,
so equal answers give an equal search. A search stops wherever its caller stops asking.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edgeport.calibration.mixed_precision.groups import NodeGroup
from edgeport.calibration.mixed_precision.sensitivity import most_sensitive_first
from edgeport.contracts import Interval

__all__ = ["Bench", "Kept", "SearchState", "search"]

Kept = frozenset[str]
"""Names of the groups that a plan leaves in float; all others run as integers."""

_AT_ONCE = 4
"""Plans that are timed beside the best one in one experiment: more would leave none finished when time runs out."""

_LEAST_GAIN = 1.01


class Bench(Protocol):
    """What a search asks."""

    def holds(self, kept: Kept) -> bool:
        """Whether the plan is surely within the accuracy budget."""
        ...

    def speedups(self, base: Kept, others: Sequence[Kept]) -> Mapping[Kept, Interval]:
        """Latency of `base` over that of each other plan, from paired processes; what can't be told is left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """Where a search stands, told before each step and at the end.

    Attributes:
        best: Of the plans that hold, the fastest that is known; None where none was found.
        step: What comes next: "judge" asks `holds`, "time" asks `speedups`; empty where nothing is left to do.
        plans: Those that the step is about.
        why: In a few words.
        reasons: By name of each group that the best plan leaves in float, why it does, as far as is known.

    """

    best: Kept | None
    step: Literal["judge", "time", ""] = ""
    plans: tuple[Kept, ...] = ()
    why: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)


_Steps = Generator[SearchState, None, None]
_Answer = Generator[SearchState, None, bool]


def search(groups: Sequence[NodeGroup], noise: Mapping[str, float], bench: Bench) -> Iterator[SearchState]:
    """Walks towards the fastest plan that holds; see above.

    Args:
        groups: In the order of computation.
        noise: Of each group, as `noise_of_groups` gives it; those that were not measured count as silent.
        bench: What judges and times.

    Yields:
        The standing before each step, which is taken when the next one is asked for; the last one has no step.

    """
    walk = _Search(bench=bench, noise=noise, order=most_sensitive_first(groups, noise))
    yield from _ladder(walk)
    if walk.best is not None:
        yield from _hand_back(walk, [name for name in reversed(walk.order) if name in walk.best])
        yield from _exchange(walk)
        yield from _leave_more(walk, groups)
    yield walk.standing()


@dataclass(kw_only=True)
class _Search:
    bench: Bench
    noise: Mapping[str, float]
    order: tuple[str, ...]
    best: Kept | None = None
    judged: dict[Kept, bool] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def standing(
        self, step: Literal["judge", "time", ""] = "", plans: tuple[Kept, ...] = (), why: str = ""
    ) -> SearchState:
        reasons = {
            name: self.reasons[name] for name in self.order if name in (self.best or ()) and name in self.reasons
        }
        return SearchState(best=self.best, step=step, plans=plans, why=why, reasons=reasons)

    def explain(self, kept: Kept, reason: str) -> None:
        """Why groups that were integers until now are left in float."""
        self.reasons |= dict.fromkeys(kept - (self.best or frozenset()), reason)

    def holds(self, kept: Kept, why: str) -> _Answer:
        if kept not in self.judged:
            yield self.standing("judge", (kept,), why)
            self.judged[kept] = self.bench.holds(kept)
        return self.judged[kept]

    def speedups(
        self, base: Kept, others: Sequence[Kept], why: str
    ) -> Generator[SearchState, None, Mapping[Kept, Interval]]:
        found: dict[Kept, Interval] = {}
        for start in range(0, len(others), _AT_ONCE):
            some = others[start : start + _AT_ONCE]
            yield self.standing("time", (base, *some), why)
            found |= self.bench.speedups(base, some)
        return found

    def expected(self, kept: Kept) -> float:
        """The noise of a plan, were it the sum of that of its parts."""
        return sum(self.noise.get(name, 0.0) for name in self.order if name not in kept)

    def bearable(self) -> float:
        """Expected noise that may hold: as far from the loudest plan that held as from the least one that did not."""
        held = max((self.expected(kept) for kept, holds in self.judged.items() if holds), default=0.0)
        failed = min((self.expected(kept) for kept, holds in self.judged.items() if not holds), default=math.inf)
        return max(held, math.sqrt(held * failed)) if held > 0 and math.isfinite(failed) else failed


def _ladder(walk: _Search) -> _Steps:
    rungs = [frozenset(walk.order[:count]) for count in range(max(len(walk.order), 1))]
    last = len(rungs) - 1

    def stands(count: int) -> _Answer:
        holds = yield from walk.holds(rungs[count], f"the {count} most sensitive in float" if count else "all in int8")
        if holds:
            walk.explain(rungs[count], "one of the most sensitive: without them the accuracy budget did not hold")
            walk.best = rungs[count]
        return holds

    if (yield from stands(0)):
        return
    low, high = 0, min(1, last)
    while low < high and not (yield from stands(high)):
        low, high = high, min(2 * high, last)
    if low == high:
        return
    while high - low > 1:
        middle = (low + high) // 2
        if (yield from stands(middle)):
            high = middle
        else:
            low = middle


def _hand_back(walk: _Search, names: Sequence[str]) -> _Steps:
    """Makes integers of as many of these as the budget lets, all at once or half by half."""
    if walk.best is None or not names:
        return
    fewer = walk.best - frozenset(names)
    if (yield from walk.holds(fewer, f"{len(names)} of them back in int8")):
        walk.best = fewer
    elif len(names) == 1:
        walk.reasons[names[0]] = "with it in int8 the accuracy budget did not hold"
    else:
        half = len(names) // 2
        yield from _hand_back(walk, names[:half])
        yield from _hand_back(walk, names[half:])


def _exchange(walk: _Search) -> _Steps:
    if not walk.best:
        return
    begun = walk.best
    without = {begun - {name}: name for name in walk.order if name in begun}
    measured = yield from walk.speedups(begun, tuple(without), "what each float group costs")
    costly = [kept for kept, speedup in measured.items() if speedup.estimate > _LEAST_GAIN]
    for kept in sorted(costly, key=lambda kept: -measured[kept].estimate):
        given = without[kept]
        if given not in walk.best:
            continue
        other = _in_place_of(walk, given)
        if other is None or not (yield from walk.holds(other, f"others in place of {given}")):
            continue
        answer = yield from walk.speedups(walk.best, (other,), f"others in place of {given}")
        if other in answer and answer[other].low > 1.0:
            walk.explain(other, f"in place of {given}, without which a call is {_times(answer[other])} as fast")
            walk.best = other


def _in_place_of(walk: _Search, name: str) -> Kept | None:
    """The best plan with others in float instead of this group: the most sensitive, as few as promise to be enough."""
    kept = (walk.best or frozenset()) - {name}
    for other in walk.order:
        if other in kept or other == name:
            continue
        kept |= {other}
        if walk.expected(kept) < walk.bearable():
            return kept if len(kept) < len(walk.order) else None
    return None


def _leave_more(walk: _Search, groups: Sequence[NodeGroup]) -> _Steps:
    tried: set[str] = set()
    while walk.best is not None:
        best = walk.best
        left = [group for group in groups if group.name not in best and group.name not in tried]
        # Between floats first, for there an integer group pays for conversions on both sides.
        left.sort(key=lambda group: -len(best.intersection(group.beside)))
        some = left[:_AT_ONCE]
        if not some or len(best) + 1 >= len(groups):
            return
        tried |= {group.name for group in some}
        measured = yield from walk.speedups(best, [best | {group.name} for group in some], "one more in float")
        surely = [kept for kept, speedup in measured.items() if speedup.low > 1.0]
        for kept in sorted(surely, key=lambda kept: -measured[kept].estimate):
            if (yield from walk.holds(kept, "one more in float")):
                walk.explain(kept, f"with it in float a call is {_times(measured[kept])} as fast")
                walk.best = kept
                break


def _times(speedup: Interval) -> str:
    return f"{speedup.estimate:.2f}x ({speedup.low:.2f}..{speedup.high:.2f})"
