"""What became of a pruned model, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import bytes_of, gain_span, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from edgeport.contracts import TrainedStep
    from edgeport.pipeline.compression.reports import PruneReport

__all__ = ["draw_prune", "trained_text"]

_MOST_LEFT = 5


def draw_prune(console: Console, report: PruneReport) -> None:
    """What is gone, what it saves, what stays and why; the file comes last."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in ("", "before", "after", "left"):
        table.add_column(header, justify="left" if not header else "right")
    pairs = (("weights", report.weights), ("multiplications", report.macs))
    for name, (before, after) in pairs:
        table.add_row(name, f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.1%}" if before else "")
    if report.latency_ns is not None:
        before, after = report.latency_ns
        table.add_row(
            "latency (p50)",
            f"{significant(before / 1e6)} ms",
            f"{significant(after / 1e6)} ms",
            f"{after / before:.1%}",
        )
    console.print(table)
    if report.speedup is not None:
        one = report.speedup
        console.print(f"speedup {one.estimate:.2f} (95 %: {gain_span(one)})")
    if report.zeros > 0.01:
        console.print(f"{report.zeros:.1%} of the weights are zero")
    _draw_units(console, report)
    for trained in report.trained:
        console.print(Text(trained_text(trained)))
    if report.reason:
        console.print(Text(clean(report.reason), style="yellow"))
    lines(console, Text(clean(f"{report.file} ({bytes_of(report.size_bytes)})")))


def _draw_units(console: Console, report: PruneReport) -> None:
    gone = [f"{gone} of {units} of {name}" for name, (gone, units) in report.removed.items()]
    gone += [f"the block {name}" for name in report.blocks]
    if gone:
        console.print(Text(clean(f"gone: {'; '.join(gone)}")))
    for path, reason in list(report.left.items())[:_MOST_LEFT]:
        console.print(Text(clean(f"left: {path}: {reason}"), style="dim"))
    if len(report.left) > _MOST_LEFT:
        console.print(Text(f"left: {len(report.left) - _MOST_LEFT} more (--json lists them)", style="dim"))


def trained_text(one: TrainedStep) -> str:
    """What a training gave, in a line."""
    numbers = "; ".join(
        f"{name} {significant(one.before[name], 4)} to {significant(value, 4)}"
        for name, value in one.after.items()
        if name in one.before
    )
    return f"trained for {one.steps} steps, the best after {one.best_step}: held-out {numbers}"
