"""How models share a device, drawn: each way with what its models took, and which one keeps every budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import Outcome

if TYPE_CHECKING:
    from edgeport.pipeline.search.colocation import Resident, ScheduleResult

__all__ = ["draw_schedule"]

_STYLES = {Outcome.PASS: "bold green", Outcome.FAIL: "bold red"}


def draw_schedule(console: Console, found: ScheduleResult) -> None:
    """A line per model of every way that was measured, and the answer."""
    where = f"{found.device.cpu or found.device.machine}, {found.device.cores} cores"
    budgets = ", ".join(f"{name} {budget}" for name, budget in found.budgets.items())
    lines(console, Text(clean(f"{budgets}; all at work at once on {where}"), style="bold"))
    for way in found.tried:
        lines(console, Text(), Text(clean(way.name), style="bold" if way.name == found.chosen else ""))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for header in ("model", "takes", "limit", "of alone", "verdict"):
            table.add_column(header, overflow="fold")
        for one in way.residents:
            table.add_row(*_row(one))
        console.print(table)
    console.print()
    if found.impossible:
        lines(
            console, Text(f"{found.impossible} other ways are ruled out: a model is over its budget in them even alone")
        )
    lines(console, Text(clean(found.chosen or "No way was found"), style="bold" if found.chosen else "bold yellow"))
    answer = Text(str(found.outcome).upper(), style=_STYLES.get(found.outcome, "bold yellow"))
    lines(console, answer.append(f": {clean(found.reason)}", style="not bold"))
    if found.chosen:
        lines(console, Text("  saved in ").append(clean(str(found.folder))))


def _row(one: Resident) -> tuple[str | Text, ...]:
    interference = one.interference
    verdict = Text(str(one.outcome).upper(), style=_STYLES.get(one.outcome, "bold yellow"))
    beside = f"{interference:.2f}x" if interference is not None else "-"
    return (Text(clean(one.name)), _time(one.quantile_ns), _time(one.limit_ns), beside, verdict)


def _time(nanoseconds: float) -> str:
    unit = TimeUnit.fitting(nanoseconds)
    return f"{significant(nanoseconds / unit.nanoseconds)} {unit.name}"
