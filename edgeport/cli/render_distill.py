"""What a student learned, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import bytes_of, gain_span, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from edgeport.pipeline.compression.reports import DistillReport

__all__ = ["draw_distill"]


def draw_distill(console: Console, report: DistillReport) -> None:
    """Teacher and student side by side, what was learned from, and where it lies."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in ("", "teacher", "student", ""):
        table.add_column(header, justify="left" if not header else "right")
    for name, (large, small) in (("weights", report.weights), ("multiplications", report.macs)):
        table.add_row(name, f"{large:,.0f}", f"{small:,.0f}", f"{small / large:.1%}" if large else "")
    if report.latency_ns is not None:
        large, small = report.latency_ns
        table.add_row(
            "latency (p50)",
            f"{significant(large / 1e6)} ms",
            f"{significant(small / 1e6)} ms",
            f"{small / large:.1%}" if large else "",
        )
    best = report.results[report.best]
    for name, after in best.after.items():
        taught = best.teacher.get(name)
        before = f"{significant(best.before[name])} before" if name in best.before else ""
        table.add_row(f"held out, {name}", "" if taught is None else significant(taught), significant(after), before)
    console.print(table)
    if report.speedup is not None:
        one = report.speedup
        console.print(f"speedup {one.estimate:.2f} (95 %: {gain_span(one)})")
    lines(console, Text(clean(f"learned from {best.objective}, {best.steps} steps; the best after {best.best_step}")))
    if len(report.results) > 1:
        each = "; ".join(_numbers(one.after) for one in report.results)
        lines(console, Text(clean(f"generations: {each}; number {report.best + 1} is kept")))
    if report.reason:
        console.print(Text(clean(report.reason), style="yellow"))
    lines(console, Text(clean(f"{report.file} ({bytes_of(report.size_bytes)})")))


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {significant(value)}" for name, value in metrics.items())
