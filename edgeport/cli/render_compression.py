"""What each step of [[compress]] gave and cost, as a table."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import RunResult
from edgeport.report.compression import StepRow, step_rows
from edgeport.report.rows import ABSENT, Cell
from edgeport.report.units import units

__all__ = ["draw_compression"]

_DASH = "-"
_COLUMNS: tuple[tuple[str, Callable[[StepRow], Cell]], ...] = (
    ("accuracy\n95 %", lambda row: row.accuracy),
    ("p50\n95 %", lambda row: row.p50),
    ("speed\n95 %", lambda row: row.gain),
    ("size", lambda row: Cell(value=row.size)),
    ("took", lambda row: Cell(value=row.took)),
)


def draw_compression(console: Console, result: RunResult) -> None:
    """The model as it is and after each step; nothing where the recipe has no step."""
    rows = step_rows(result, *units(result))
    if not rows:
        return
    lines(console, Text(), Text("What each step of [[compress]] gave", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("after\nshown by", overflow="fold")
    for header, _ in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        style = "bold green" if row.ships else "dim" if row.problem else ""
        name = Text(clean(row.step), style=style)
        name.append(f"\n{clean(row.shown_by or row.problem)}", style="not bold dim")
        table.add_row(name, *(_cell(cell(row), style) for _, cell in _COLUMNS))
    console.print(Padding(table, (0, 0, 0, 2)))
    for row in rows:
        for sentence in (*row.said, *([row.problem] if row.problem and row.shown_by else [])):
            text = Text(f"{clean(row.step.partition(' ')[0])}: {clean(sentence)}", style="dim")
            console.print(Padding(text, (0, 0, 0, 2)))


def _cell(cell: Cell, style: str) -> Text:
    text = Text(_DASH if cell.value == ABSENT else clean(cell.value), style=style)
    if cell.detail:
        text.append("\n" + clean(cell.detail), style="not bold dim")
    return text
