"""The targets of a run in one table: what ships for each."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, bytes_of, gain_span, significant
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import Outcome, RunResult
from edgeport.report.confirmation import AGAIN, again_mark

__all__ = ["draw_summary"]

_VERDICTS = {Outcome.PASS: ("ships", "bold green"), Outcome.FAIL: ("budget not met", "bold red")}


def draw_summary(console: Console, result: RunResult) -> None:
    """One row per target, and where the page is that lists them."""
    shipping = sum(bool(one.chosen) for one in result.targets)
    title = f"{clean(result.name)}: {shipping} of {len(result.targets)} targets ship"
    lines(console, Text(), Text(title, style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    several = len({one.device.name for one in result.targets}) > 1
    for header in ("target", *(["device"] if several else []), "verdict", "what ships", "p50", "gain", "drop", "size"):
        table.add_column(header, overflow="fold")
    for one in result.targets:
        word, style = _VERDICTS.get(one.outcome, (str(one.outcome), "bold yellow"))
        where = [Text(clean(f"{one.device.name} ({one.device.cpu})"))] if several else []
        table.add_row(Text(clean(one.target)), *where, Text(word, style=style), *_numbers(one))
    console.print(table)
    if any(again_mark(one.candidate(one.chosen)) for one in result.targets if one.chosen):
        again = f"{AGAIN} Measured again, side by side with the float; p50 is of the screening."
        console.print(Text(again, style="dim"))
    if result.report is not None:
        lines(console, Text(f"  {'report':<8}").append(clean(result.report)))


def _numbers(one: RunResult) -> tuple[str | Text, ...]:
    if not one.chosen:
        return ("nothing", "-", "-", "-", "-")
    chosen = one.candidate(one.chosen)
    median = chosen.latency.quantile(0.5).interval_ns if chosen.latency is not None else None
    latency = "-"
    if median is not None:
        unit = TimeUnit.fitting(median.estimate)
        latency = f"{significant(median.estimate / unit.nanoseconds)} {unit.name}"
    gain = "1x" if chosen.name == one.best_float else "-"
    if chosen.against_float is not None and chosen.name != one.best_float:
        speedup = chosen.against_float.speedup
        gain = f"{significant(speedup.estimate)}x{again_mark(chosen)} ({gain_span(speedup)})"
    drop = significant(chosen.accuracy.drop.estimate) if chosen.accuracy is not None else "-"
    size = bytes_of(chosen.artifact.size_bytes) if chosen.artifact is not None else "-"
    return (Text(clean(chosen.name)), latency, gain, drop, size)
