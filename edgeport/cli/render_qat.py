"""What training with a plan's rounding brought, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, gain_span, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeport.pipeline.compression.reports import QatReport

__all__ = ["draw_qat"]


def draw_qat(console: Console, report: QatReport) -> None:
    """The training, the accuracy with and without it, the latencies, and where it lies."""
    learned = report.learned
    lines(
        console,
        Text(clean(f"{report.name} for {report.backend} in {report.precision}"), style="bold"),
        Text(clean(f"learned from {learned.loss}, {learned.steps} steps; the best after {learned.best_step}")),
        Text(clean(f"  held out, before  {_numbers(learned.before)}")),
        Text(clean(f"  held out, after   {_numbers(learned.after)}")),
    )
    if report.difference is not None:
        lines(
            console, Text(f"runtime against PyTorch with the same rounding: {significant(100 * report.difference)} %")
        )
    lines(console, Text())
    if report.untrained is not None:
        drop = significant(report.untrained.drop.estimate)
        lines(console, Text(clean(f"  {report.backend} {report.precision} without training, drop {drop}"), style="dim"))
    for row in report.candidates:
        lines(console, _row(row, report))
    verdict = f"{report.chosen} should ship" if report.chosen else "Nothing here should ship"
    lines(console, Text(), Text(clean(verdict), style="bold green" if report.chosen else "bold yellow"))
    for name, place in (("model", "model.onnx"), ("plan", "plan.json"), ("artifact", "best")):
        lines(console, Text(f"  {name:<10}").append(clean(report.folder / place)))
    for note in report.notes:
        lines(console, Text(clean(note), style="dim"))


def _numbers(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {significant(value)}" for name, value in metrics.items())


def _row(row: Candidate, report: QatReport) -> Text:
    interval = row.latency.quantile(0.5).interval_ns if row.latency is not None else None
    parts = [row.name]
    if interval is not None:
        unit = TimeUnit.fitting(interval.estimate)
        parts.append(f"p50 {significant(interval.estimate / unit.nanoseconds)} {unit.name}")
    if row.accuracy is not None:
        parts.append(f"drop {significant(row.accuracy.drop.estimate)}")
    if row.name == report.trained and row.refusal is None:
        parts += [
            f"{significant(one.speedup.estimate)}x ({gain_span(one.speedup)}) of {name}"
            for name, one in report.against.items()
        ]
    if row.refusal is not None:
        parts.append(row.refusal.reason)
    return Text("  " + clean(", ".join(parts)))
