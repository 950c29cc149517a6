"""What a student learned without data, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from edgeport.cli.formatting import bytes_of, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from edgeport.pipeline.compression.reports import WithoutDataReport

__all__ = ["draw_without_data"]


def draw_without_data(console: Console, report: WithoutDataReport) -> None:
    """How large both are, how good, and what must be known."""
    large, small = report.weights
    share = f", {small / large:.1%}" if large else ""
    lines(console, Text(clean(f"weights  {large:,} of the teacher, {small:,} of the student{share}")))
    for name, after in report.result.after.items():
        taught = report.result.teacher.get(name)
        of_teacher = "" if taught is None else f"; the teacher's {significant(taught)}"
        lines(console, Text(clean(f"{name}  {significant(after)}{of_teacher}")))
    told = report.result
    lines(console, Text(clean(f"learned from {told.objective}, {told.steps} steps, without data")))
    for note in report.notes:
        console.print(Text(clean(note), style="yellow"))
    if report.reason:
        console.print(Text(clean(report.reason), style="yellow"))
    if report.made is not None:
        lines(console, Text(clean(f"{report.made}: samples that were made")))
    lines(console, Text(clean(f"{report.file} ({bytes_of(report.size_bytes)})")))
