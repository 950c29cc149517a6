"""What was drawn, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from edgeport.cli.output import lines
from edgeport.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from edgeport.pipeline.compression.reports import ImitateReport

__all__ = ["draw_imitate"]


def draw_imitate(console: Console, report: ImitateReport) -> None:
    """Where the samples are, and what they rest on."""
    lines(console, Text(clean(f"{report.count} samples, drawn by what was learned from {report.learned_from}")))
    lines(console, Text(clean(str(report.file))))
