"""Students that were judged, several of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StudentRow:
    """One of them.

    Attributes:
        name: Of how it was taught, or of the network.
        seed: Of weights, order, and everything drawn; None where nothing was trained here.
        top1: Part of right classes, 0..1.

    """

    name: str
    seed: int | None
    top1: float


def by_name(rows: Sequence[StudentRow]) -> dict[str, list[float]]:
    """Accuracies over seeds."""
    return {name: [row.top1 for row in rows if row.name == name] for name in dict.fromkeys(row.name for row in rows)}
