"""Which nodes a search kept in float, ready to print."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeport.contracts import PlanSearch, RunResult, SearchedGroup

__all__ = ["SearchRow", "SearchTable", "search_tables"]

_DECIBELS = 10.0
_INTEGERS_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """One group of nodes; `signal` is over the noise of the group alone, in words."""

    name: str
    nodes: tuple[str, ...]
    signal: str
    precision: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SearchTable:
    """One search.

    Attributes:
        name: Of the candidate that it gave, or of the backend where it gave none.
        said: The search in a few sentences.
        rows: Groups in float, then the most sensitive of the others.
        hidden: Groups that are not shown; all of them run as integers.

    """

    name: str
    said: str
    rows: tuple[SearchRow, ...]
    hidden: int


def search_tables(result: RunResult) -> list[SearchTable]:
    """One per search of the run."""
    return [_table(search) for search in result.searches]


def _table(search: PlanSearch) -> SearchTable:
    kept = search.in_float
    others = sorted(
        (group for group in search.groups if group not in kept),
        key=lambda group: -(group.noise if group.noise is not None else -1.0),
    )
    shown = (*kept, *others[:_INTEGERS_SHOWN])
    return SearchTable(
        name=search.candidate or search.backend,
        said=search.said,
        rows=tuple(_row(group) for group in shown),
        hidden=len(search.groups) - len(shown),
    )


def _row(group: SearchedGroup) -> SearchRow:
    return SearchRow(
        name=group.name,
        nodes=group.nodes,
        signal=_signal(group.noise),
        precision=str(group.precision),
        reason=group.reason,
    )


def _signal(noise: float | None) -> str:
    if noise is None:
        return "not looked at"
    if noise <= 0:
        return "no noise"
    return "broken" if math.isinf(noise) else f"{-_DECIBELS * math.log10(noise):.1f} dB"
