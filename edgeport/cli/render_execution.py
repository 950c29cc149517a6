"""How an artifact is best run, drawn: what was measured to the end, and what was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, gain_span, significant, span
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import LatencySummary, Outcome

if TYPE_CHECKING:
    from edgeport.pipeline.search.execution import ExecutionTuned

__all__ = ["draw_execution"]

_STYLES = {Outcome.PASS: "bold green", Outcome.FAIL: "bold red"}


def draw_execution(console: Console, found: ExecutionTuned) -> None:
    """The executions that were measured to the end, the choice with its gain, and where it lies."""
    where = f"{found.device.cpu or found.device.machine}, {found.device.cores} cores"
    bound = "" if found.p99_ns is None else f" with p99 at most {significant(found.p99_ns / 1e6)} ms"
    lines(console, Text(clean(f"For {found.goal}{bound} on {where}"), style="bold"))
    headers = ["execution", "p50", "p99", "samples per s", "95 %"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for arm in found.arms:
        name = f"{arm.name} (the runtime's own)" if arm.default else arm.name
        per_s = arm.summary.throughput_per_s
        table.add_row(
            Text(clean(name), style="bold" if arm.name == found.chosen else ""),
            _quantile(arm.summary, 0.5),
            _quantile(arm.summary, 0.99),
            significant(per_s.estimate) if per_s is not None else "-",
            span(per_s) if per_s is not None else "-",
        )
    console.print(table)
    console.print()
    compared = ""
    if found.gain is not None and found.chosen != found.default:
        compared = f": {significant(found.gain.estimate)}x of {found.default} ({gain_span(found.gain)})"
    said = f"{found.chosen}{compared}" if found.chosen else "Nothing is saved but what was given"
    lines(console, Text(clean(said), style="bold green" if found.chosen else "bold yellow"))
    if found.reason:
        lines(console, Text(clean(found.reason)))
    time = "" if found.finished else "; the time was up before all was tried: give a longer --time"
    lines(
        console,
        Text(clean(f"{found.tried} ways to run it were tried in {found.spent_s:.0f} s of measuring{time}")),
        Text(f"  {'best':<10}").append(clean(str(found.folder / "best"))),
        Text(str(found.outcome).upper(), style=_STYLES.get(found.outcome, "bold yellow")),
    )


def _quantile(summary: LatencySummary, q: float) -> str:
    interval = summary.quantile(q).interval_ns
    if interval is None:
        return "-"
    unit = TimeUnit.fitting(interval.estimate)
    return f"{significant(interval.estimate / unit.nanoseconds)} {unit.name}"
