"""What a search for nodes to leave in float found, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, gain_span, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import Candidate, SearchedGroup

if TYPE_CHECKING:
    from edgeport.pipeline.search.mixed_precision_command import TuneResult

__all__ = ["draw_kept", "draw_tune"]

_SHOWN = 12
_DECIBELS = 10.0


def draw_tune(console: Console, found: TuneResult) -> None:
    """The most sensitive groups and what became of them, the plan beside the floats, and where it lies."""
    lines(console, Text(f"{clean(found.name)} for {clean(found.backend)}", style="bold"))
    groups = sorted(found.groups, key=lambda group: -(group.noise if group.noise is not None else -1.0))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in ("group of nodes", "nodes", "signal over its noise", "runs in"):
        table.add_column(header, overflow="fold")
    for group in groups[:_SHOWN]:
        style = "" if str(group.precision) == "int8" else "yellow"
        table.add_row(
            Text(clean(group.name)), str(len(group.nodes)), _decibels(group), Text(str(group.precision), style=style)
        )
    console.print(table)
    if len(groups) > _SHOWN:
        lines(console, Text(f"and {len(groups) - _SHOWN} groups with less noise, all in --json", style="dim"))
    draw_kept(console, found.groups)
    lines(console, Text(), Text(clean(found.said)), Text())
    for row in found.candidates:
        lines(console, _row(row, found))
    verdict = f"{found.chosen} is saved" if found.chosen else "Nothing could be run; no artifact is saved"
    lines(
        console,
        Text(),
        Text(clean(verdict), style="bold green" if found.chosen else "bold yellow"),
        Text(f"  {'plan':<10}").append(clean(found.folder / "nodes.toml")),
    )
    if found.chosen:
        lines(console, Text(f"  {'artifact':<10}").append(clean(found.folder / "best")))


def draw_kept(console: Console, groups: Sequence[SearchedGroup], title: str = "Kept in float") -> None:
    """The nodes that a plan keeps in float, and why; nothing where there are none, or nothing holds."""
    kept = [group for group in groups if group.precision.is_float]
    if not kept or len(kept) == len(groups):
        return
    lines(console, Text(), Text(clean(title), style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for group in kept[:_SHOWN]:
        table.add_row(Text(clean(", ".join(group.nodes))), Text(clean(group.reason)))
    console.print(Padding(table, (0, 0, 0, 2)))
    if len(kept) > _SHOWN:
        lines(console, Text(f"  and {len(kept) - _SHOWN} more groups, all in --json", style="dim"))


def _decibels(group: SearchedGroup) -> str:
    if group.noise is None:
        return "not looked at"
    if group.noise <= 0:
        return "no noise"
    return "broken" if math.isinf(group.noise) else f"{-_DECIBELS * math.log10(group.noise):.1f} dB"


def _row(row: Candidate, found: TuneResult) -> Text:
    interval = row.latency.quantile(0.5).interval_ns if row.latency is not None else None
    parts = [row.name]
    if interval is not None:
        unit = TimeUnit.fitting(interval.estimate)
        parts.append(f"p50 {significant(interval.estimate / unit.nanoseconds)} {unit.name}")
    if row.accuracy is not None:
        parts.append(f"drop {significant(row.accuracy.drop.estimate)}")
    if not row.is_float and row.refusal is None:
        parts += [
            f"{significant(one.speedup.estimate)}x ({gain_span(one.speedup)}) of {name}"
            for name, one in found.against.items()
        ]
    if row.refusal is not None:
        parts.append(row.refusal.reason)
    return Text("  " + clean(", ".join(parts)))
