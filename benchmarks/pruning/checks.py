"""What is claimed, from rows alone: nothing here runs or reads anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.harness import Check, Table, at_least, paired

WORSE = 0.005
"""What a criterion may be below chance by, once all have learned."""
_OTHERS = {"channels in 20 steps": "channels"}
"""Where another library's rows are, which has one way to do it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A pruned network that was judged.

    Attributes:
        structure, by, maker: As in `Case`.
        seed: Of samples and chance.
        top1: Accuracy, 0..1.

    """

    structure: str
    by: str
    maker: str
    seed: int
    top1: float


def checks(rows: Sequence[Row], *, trained: bool = False) -> list[Check]:
    """Every criterion beats random, and is no worse than the same criterion of another library.

    Of networks that were trained none need be more than a little below random, and the best must be above it.
    """
    claims: list[Check] = []
    relation, bound = ("less", -WORSE) if trained else ("above", 0.0)
    for structure in dict.fromkeys(row.structure for row in rows if row.maker == "edgeport"):
        name = f"{structure}, trained" if trained else structure
        own = {by: _of(rows, structure, by, "edgeport") for by in _criteria(rows, structure)}
        chance = own.pop("random", [])
        for by, values in own.items() if chance else ():
            low, _ = paired(values, chance)
            claims.append(at_least(f"{name}: {by} {relation} random, top-1 (95 %)", low, bound))
        if trained and chance and own:
            best = max(own.items(), key=lambda item: mean(item[1]))[0]
            low, _ = paired(own[best], chance)
            claims.append(at_least(f"{name}: {best}, the best, above random, top-1 (95 %)", low, 0.0))
        claims += _beside_others(rows, name, own, _OTHERS.get(structure, structure))
    return claims


def _beside_others(rows: Sequence[Row], name: str, own: Mapping[str, Sequence[float]], others: str) -> Iterator[Check]:
    for by, maker in dict.fromkeys((row.by, row.maker) for row in rows if row.structure == others):
        if maker != "edgeport" and by in own:
            _, high = paired(own[by], _of(rows, others, by, maker))
            yield at_least(f"{name}: {by} not surely below {maker}'s, top-1 (95 %)", high, 0.0)


def _criteria(rows: Sequence[Row], structure: str) -> list[str]:
    return list(dict.fromkeys(row.by for row in rows if (row.structure, row.maker) == (structure, "edgeport")))


def _of(rows: Sequence[Row], structure: str, by: str, maker: str) -> list[float]:
    return [row.top1 for row in rows if (row.structure, row.by, row.maker) == (structure, by, maker)]


def table(rows: Sequence[Row], title: str) -> Table:
    """Mean and range of each way to prune."""
    each = dict.fromkeys((row.structure, row.by, row.maker) for row in rows)
    lines = []
    for structure, by, maker in each:
        values = _of(rows, structure, by, maker)
        lines.append((structure, by, maker, f"{mean(values):.4f}", f"{min(values):.4f} to {max(values):.4f}"))
    return Table(title=title, columns=("pruned", "by", "maker", "mean", "over seeds"), rows=tuple(lines))
