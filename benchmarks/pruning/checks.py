"""What is claimed, from rows alone: nothing here runs or reads anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def checks(rows: Sequence[Row]) -> list[Check]:
    """Every criterion beats random, and is no worse than the same criterion of another library."""
    found: list[Check] = []
    for structure in _structures(rows):
        own, chance = _own(rows, structure)
        for by, values in own.items():
            if chance:
                low, _ = paired(values, chance)
                found.append(at_least(f"{structure}: {by} above random, top-1 (95 %)", low, 0.0))
        found += _beside_others(rows, structure, own)
    return found


def trained_checks(rows: Sequence[Row]) -> list[Check]:
    """No criterion is much below random, the best is above it, and none is worse than that of another library."""
    found: list[Check] = []
    for structure in _structures(rows):
        own, chance = _own(rows, structure)
        for by, values in own.items():
            if chance:
                low, _ = paired(values, chance)
                found.append(at_least(f"{structure}, trained: {by} less random, top-1 (95 %)", low, -WORSE))
        if chance and own:
            best = max(own, key=lambda by: mean(own[by]))
            low, _ = paired(own[best], chance)
            found.append(at_least(f"{structure}, trained: {best}, the best, above random, top-1 (95 %)", low, 0.0))
        found += _beside_others(rows, f"{structure}, trained", own, structure)
    return found


def _structures(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.structure for row in rows if row.maker == "edgeport"))


def _own(rows: Sequence[Row], structure: str) -> tuple[dict[str, list[float]], list[float]]:
    """Accuracies by criterion, and those of chance."""
    own = {by: _of(rows, structure, by, "edgeport") for by in _criteria(rows, structure)}
    chance = own.pop("random", [])
    return own, chance


def _beside_others(
    rows: Sequence[Row], said: str, own: Mapping[str, Sequence[float]], structure: str = ""
) -> list[Check]:
    others = _OTHERS.get(structure or said, structure or said)
    found: list[Check] = []
    for by, maker in dict.fromkeys((row.by, row.maker) for row in rows if row.structure == others):
        if maker != "edgeport" and by in own:
            _, high = paired(own[by], _of(rows, others, by, maker))
            found.append(at_least(f"{said}: {by} not surely below {maker}'s, top-1 (95 %)", high, 0.0))
    return found


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
