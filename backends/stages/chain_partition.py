"""Where to cut: the best chain of stages over a graph of parts. Numbers alone; it knows no ONNX.

A stage is the difference of two *down-sets*: sets of parts that hold, with each part, everything it waits for. A chain
of down-sets, each inside the next, is a cut into stages in which nothing flows back, and every such cut is one. So the
best is found by dynamic programming over down-sets (Tarnawski et al., "Efficient Algorithms for Device Placement of DNN
Graph Operators", NeurIPS 2020, where they are called ideals). A network with few branches side by side has few of them,
and all are considered. Where there are too many, only those are that are beginnings of one of three topological orders:
that of the file, one that ends each branch before the next begins, and one that keeps the fewest bytes alive. With one
order alone this is the partition of a chain (Bokhari, "Partitioning Problems in Parallel, Pipelined, and Distributed
Computing", IEEE Transactions on Computers 37, 1988).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GIVEN", "Carried", "Chain", "Dag", "best_chain"]

GIVEN = -1
"""Where a value comes from that no part computes: an input of the whole."""
_MOST_SETS = 4000
_WORD = 64

_Bits = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A value that may have to cross from stage to stage.

    Attributes:
        name: For who reads the result.
        source: The part that computes it, or `GIVEN`.
        readers: Parts that read it.
        size_bytes: Of one call.
        leaves: It is an output of the whole, so it is carried to the end.
        can_cross: False for what no stage can hand to another.

    """

    name: str
    source: int
    readers: frozenset[int]
    size_bytes: int
    leaves: bool = False
    can_cross: bool = True


@dataclass(frozen=True, kw_only=True)
class Dag:
    """What can't be cut any further, and what flows between.

    Attributes:
        times_ns: Of each part, 0 or more.
        waits_for: Of each part, those that must be done before; lower numbers or higher, but no cycle.
        values: Everything that flows.

    """

    times_ns: tuple[float, ...]
    waits_for: tuple[frozenset[int], ...]
    values: tuple[Carried, ...]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The best stages.

    Attributes:
        stages: Numbers of the parts of each, ascending.
        times_ns: Of each, with what its values cost to hand over.
        crossing: Names of the values that are carried over each of the cuts between two stages.
        crossing_bytes: Their sizes together.
        exhaustive: Every way to cut was considered.

    """

    stages: tuple[tuple[int, ...], ...]
    times_ns: tuple[float, ...]
    crossing: tuple[tuple[str, ...], ...]
    crossing_bytes: tuple[int, ...]
    exhaustive: bool


def best_chain(
    dag: Dag,
    stages: int,
    *,
    ns_per_byte: float,
    slack: float,
    slowness: Sequence[float] = (),
    most_sets: int = _MOST_SETS,
) -> Chain | None:
    """The fewest bytes among the chains whose slowest stage takes at most `1 + slack` times the shortest possible.

    Args:
        dag: At least one part.
        stages: How many, each of one part or more.
        ns_per_byte: What a byte costs the stage that hands it on, and the one that takes it.
        slack: Share by which the slowest stage may be slower for fewer bytes; 0 for the shortest.
        slowness: Of each stage, how many times as long as `Dag.times_ns` its place takes; once where there are none.
        most_sets: Down-sets that are considered; with more, those of three orders.

    Returns:
        The chain; None where there is none of so many stages.

    """
    found = _all_down_sets(dag, most_sets)
    sets = found if found is not None else _of_orders(dag)
    family = _Family(dag, sets, ns_per_byte, tuple(slowness) or (1.0,) * stages)
    shortest = family.shortest(stages)
    if not math.isfinite(shortest):
        return None
    return family.chain(family.leanest(stages, shortest * (1 + slack)), exhaustive=found is not None)


class _Family:
    """Some down-sets, the smallest first, with what each of them costs as a cut.

    Of the empty set and of the whole nothing is carried: what goes in and comes out is the same for every cut.
    """

    def __init__(self, dag: Dag, sets: Sequence[int], ns_per_byte: float, slowness: tuple[float, ...]) -> None:
        count = len(dag.times_ns)
        self._slowness = slowness
        self._dag = dag
        self._sets = sorted(sets, key=lambda one: (one.bit_count(), one))
        members = _members(self._sets, count)
        self._bits = _packed(self._sets, count)
        self._work = members @ np.asarray(dag.times_ns, dtype=np.float64)
        self._live = [_crosses(value, members) for value in dag.values]
        self.bytes = np.zeros(len(self._sets))
        for value, live in zip(dag.values, self._live, strict=True):
            self.bytes[live] += value.size_bytes if value.can_cross else math.inf
        self._price = ns_per_byte * self.bytes if ns_per_byte else np.where(np.isinf(self.bytes), math.inf, 0.0)

    def shortest(self, stages: int) -> float:
        """The time of the slowest stage of the best chain, ns; infinite where there is none."""
        return float(self._solve(stages, lambda before, cost, _: np.maximum(before, cost))[0][-1, -1])

    def leanest(self, stages: int, most_ns: float) -> list[int]:
        """Positions of the down-sets, the empty one first, of the chain of fewest bytes with stages of `most_ns`."""
        most_ns *= 1 + 1e-12  # sums in another order
        unit = max(most_ns, 1.0)

        def step(before: NDArray[Any], cost: NDArray[Any], carried: float) -> NDArray[Any]:
            # Bytes are whole numbers, and all the squares together less than half of one: they decide between equals.
            unbalanced = (cost / unit) ** 2 / (2 * stages + 1)
            return np.where(cost <= most_ns, before + carried + unbalanced, math.inf)

        _, parents = self._solve(stages, step)
        chain = [len(self._sets) - 1]
        for stage in range(stages, 0, -1):
            chain.append(int(parents[stage, chain[-1]]))
        return chain[::-1]

    def chain(self, positions: Sequence[int], *, exhaustive: bool) -> Chain:
        """The stages between these down-sets."""
        pairs = list(itertools.pairwise(positions))
        cuts = positions[1:-1]
        values = self._dag.values
        return Chain(
            stages=tuple(tuple(_numbers(self._sets[after] & ~self._sets[before])) for before, after in pairs),
            times_ns=tuple(
                float(self._cost(np.array([before]), after, stage)[0]) for stage, (before, after) in enumerate(pairs)
            ),
            crossing=tuple(
                tuple(value.name for value, live in zip(values, self._live, strict=True) if live[cut]) for cut in cuts
            ),
            crossing_bytes=tuple(int(self.bytes[cut]) for cut in cuts),
            exhaustive=exhaustive,
        )

    def _solve(self, stages: int, step: Callable[..., NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """best[k, j]: of the chains of k stages that end with down-set j; and the down-set before it."""
        size = len(self._sets)
        best = np.full((stages + 1, size), math.inf)
        parents = np.zeros((stages + 1, size), dtype=np.intp)
        best[0, 0] = 0.0
        for after in range(1, size):
            if math.isinf(self._price[after]):
                continue
            inside = np.flatnonzero(~(self._bits[:after] & ~self._bits[after]).any(axis=1))
            for stage in range(1, stages + 1):
                cost = self._cost(inside, after, stage - 1)
                found = step(best[stage - 1, inside], cost, self.bytes[after])
                at = int(np.argmin(found))
                best[stage, after], parents[stage, after] = found[at], inside[at]
        return best, parents

    def _cost(self, before: NDArray[np.intp], after: int, stage: int) -> NDArray[Any]:
        own = self._slowness[stage] * np.maximum(self._work[after] - self._work[before], 0.0)
        return np.asarray(own + self._price[before] + self._price[after])


def _crosses(value: Carried, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the value is carried over the cut behind each down-set: it is there, and is wanted later."""
    there = np.ones(len(members), dtype=bool) if value.source == GIVEN else members[:, value.source]
    readers = sorted(value.readers)
    wanted = np.ones(len(members), dtype=bool) if value.leaves else ~members[:, readers].all(axis=1)
    ends = members.any(axis=1) & ~members.all(axis=1)
    return np.asarray(there & wanted & ends)


def _all_down_sets(dag: Dag, most: int) -> list[int] | None:
    """As numbers whose bits are the parts; None where there are more than `most`."""
    waits = [_number(wanted) for wanted in dag.waits_for]
    found = {0}
    frontier = [0]
    while frontier:
        larger = {
            one | (1 << part)
            for one in frontier
            for part, wanted in enumerate(waits)
            if not one >> part & 1 and not wanted & ~one
        }
        found |= larger
        if len(found) > most:
            return None
        frontier = sorted(larger)
    return sorted(found)


def _of_orders(dag: Dag) -> list[int]:
    """Every beginning of the three orders."""
    found = {0}
    for order in (_as_numbered(dag), _branch_by_branch(dag), _few_live_bytes(dag)):
        one = 0
        for part in order:
            one |= 1 << part
            found.add(one)
    return sorted(found)


def _as_numbered(dag: Dag) -> Iterator[int]:
    """Of the parts that can come next, the one with the lowest number."""
    return _by_choice(dag, lambda ready, _: min(ready))


def _few_live_bytes(dag: Dag) -> Iterator[int]:
    """Of the parts that can come next, the one after which the fewest bytes are alive."""
    touched: list[list[Carried]] = [[] for _ in dag.times_ns]
    for value in dag.values:
        for part in value.readers | ({value.source} - {GIVEN}):
            touched[part].append(value)

    def grows(part: int, done: set[int]) -> int:
        change = 0
        for value in touched[part]:
            wanted = value.leaves or bool(value.readers - done - {part})
            change += value.size_bytes * ((value.source == part and wanted) - (value.source != part and not wanted))
        return change

    return _by_choice(dag, lambda ready, done: min(ready, key=lambda part: (grows(part, done), part)))


def _by_choice(dag: Dag, choose: Callable[[set[int], set[int]], int]) -> Iterator[int]:
    left = [len(wanted) for wanted in dag.waits_for]
    followers = _followers(dag)
    ready = {part for part, count in enumerate(left) if not count}
    done: set[int] = set()
    while ready:
        part = choose(ready, done)
        ready.remove(part)
        done.add(part)
        yield part
        for follower in followers[part]:
            left[follower] -= 1
            if not left[follower]:
                ready.add(follower)


def _branch_by_branch(dag: Dag) -> Iterator[int]:
    """Depth first from the parts that nothing waits for: each part right after what it alone waits for."""
    followers = _followers(dag)
    done: set[int] = set()
    for last in (part for part, waiting in enumerate(followers) if not waiting):
        stack = [last]
        while stack:
            part = stack[-1]
            pending = sorted(dag.waits_for[part] - done, reverse=True)
            if pending:
                stack += pending
                continue
            stack.pop()
            if part not in done:
                done.add(part)
                yield part


def _followers(dag: Dag) -> list[list[int]]:
    followers: list[list[int]] = [[] for _ in dag.waits_for]
    for part, wanted in enumerate(dag.waits_for):
        for before in wanted:
            followers[before].append(part)
    return followers


def _number(parts: frozenset[int]) -> int:
    return sum(1 << part for part in parts)


def _numbers(one: int) -> list[int]:
    return [part for part in range(one.bit_length()) if one >> part & 1]


def _members(sets: Sequence[int], count: int) -> NDArray[np.bool_]:
    words = _packed(sets, count)
    return np.unpackbits(words.view(np.uint8), axis=1, count=count, bitorder="little").astype(bool)


def _packed(sets: Sequence[int], count: int) -> _Bits:
    """Each set as a row of little-endian words."""
    words = -(-count // _WORD)
    raw = b"".join(one.to_bytes(8 * words, "little") for one in sets)
    return np.frombuffer(raw, dtype="<u8").reshape(len(sets), words).astype(np.uint64)
