"""What `bench` and `compare` found, drawn: the verdicts first, the numbers, and the answer last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, bytes_of, gain_span, peak_of, significant, span
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import Comparison, LatencySummary, Outcome

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.bench import BenchResult
    from edgeport.pipeline.benchmarking.compare import Compared, CompareResult
    from edgeport.pipeline.selection.constraints import Check

__all__ = ["draw_bench", "draw_compare"]

_STYLES = {Outcome.PASS: "bold green", Outcome.FAIL: "bold red"}


def draw_bench(console: Console, found: BenchResult) -> None:
    """What was timed, the checks, quantiles with intervals, what else was measured, flags in words, the outcome."""
    summary = found.summary
    lines(console, Text(clean(_headline(found))))
    if len(found.checks) > 1 or (found.checks and found.checks[0].name != "latency"):
        console.print()
        console.print(_checks(found.checks))
    console.print()
    console.print(_quantiles(summary))
    if found.batch > 1:
        console.print(Text(f"per call, and a call takes {found.batch} samples"))
    console.print()
    console.print(_named(_other(found)))
    if found.comparison is not None:
        console.print(Text(clean(_speedup(found.comparison, "the other"))))
    _flags(console, summary.flags)
    for note in found.notes:
        lines(console, Text(clean(note)))
    if found.certainty is not None:
        console.print(Text(clean(f"{found.certainty} ({_calls(summary)}).")))
    _verdict(console, found.outcome, found.reason)


def draw_compare(console: Console, found: CompareResult) -> None:
    """Both artifacts, the speedup with its interval, flags in words, and the change."""
    offline = found.new.summary.scenario == "offline"
    table = _table("", "throughput" if offline else "p50", "95 %", "size", "peak memory")
    unit = _unit(found.old.summary, found.new.summary)
    for role, one in (("old", found.old), ("new", found.new)):
        table.add_row(*_compared(role, one, unit))
    console.print(table)
    console.print()
    console.print(Text(clean(_speedup(found.comparison, "the old one"))))
    _flags(console, sorted({*found.old.summary.flags, *found.new.summary.flags}))
    console.print(Text(clean(f"{found.certainty}.".replace("the speedup", "The speedup", 1))))
    word = found.outcome if found.outcome is Outcome.INVALID else found.comparison.change
    _answer(console, str(word).upper(), found.outcome, "" if found.outcome is Outcome.FAIL else found.reason)


def _headline(found: BenchResult) -> str:
    scenario = found.summary.scenario
    if found.rate_per_s is not None:
        scenario += f", {found.rate_per_s:g} per s on average"
    if scenario != "single-stream":
        scenario += f", {found.streams} stream{'s' if found.streams > 1 else ''}"
    built = f"{found.backend} {found.precision}".strip()
    where = f"{found.device.cpu or found.device.machine}, {found.device.cores} cores"
    return f"{found.name} ({built}) on {where}; {scenario}"


def _checks(checks: Sequence[Check]) -> Table:
    table = _table("asked", "verdict", "found")
    for check in checks:
        verdict = Text(str(check.outcome).upper(), style=_STYLES.get(check.outcome, "bold yellow"))
        table.add_row(Text(clean(check.name)), verdict, Text(clean(f"{check.found}{_evidence(check)}")))
    return table


def _evidence(check: Check) -> str:
    """How many calls it rests on, and how likely so few of them are over the limit by luck."""
    verdict = check.evidence
    if verdict is None:
        return ""
    luck = f"; chance of so few by luck {verdict.chance:.1g}, {verdict.alpha:.2g} allowed"
    return f"; {verdict.over} of {verdict.calls} calls over the limit{luck if verdict.chance < 1 else ''}"


def _quantiles(summary: LatencySummary) -> Table:
    unit = _unit(summary)
    table = _table("latency", unit.name, "95 %")
    for quantile in summary.quantiles:
        name = f"p{100 * quantile.q:g}"
        if quantile.interval_ns is None:
            table.add_row(name, "-", Text(clean(quantile.refused)))
        else:
            interval = unit.scaled(quantile.interval_ns)
            table.add_row(name, significant(interval.estimate), span(interval))
    return table


def _other(found: BenchResult) -> list[tuple[str, str]]:
    summary = found.summary
    rows = []
    if summary.throughput_per_s is not None:
        per_s = summary.throughput_per_s
        rows.append(("throughput", f"{significant(per_s.estimate)} samples per s, {span(per_s)}"))
    rows.append(("compile", _time(found.compile_ns) if found.compile_ns is not None else "unknown: built before"))
    if summary.first_load_ns is not None:
        rows.append(("first load", f"{_time(summary.first_load_ns)}, its files read from the disk"))
    rows.append(("warm load", f"{_time(summary.load_ns)}, its files in memory"))
    rows.append(("first inference", _time(summary.first_inference_ns)))
    rows.append(("peak memory", f"{peak_of(summary.peak_memory_bytes)}; size {bytes_of(found.size_bytes)}"))
    rows.append(("energy", _energy(summary)))
    if found.missing:
        rows.append(("not told", ", ".join(one.partition(":")[0] for one in found.missing)))
    if summary.roofline is not None:
        line = summary.roofline
        rows.append(
            (
                "roofline",
                f"{100 * line.share:.3g} % of this device's peak; no call can take under {_time(line.least_ns)}",
            )
        )
    return rows


def _energy(summary: LatencySummary) -> str:
    energy = summary.energy
    if energy is None:
        return "not measured: --energy asks for it"
    if energy.per_sample_j is None:
        return energy.refused
    joules = energy.per_sample_j
    return f"{significant(joules.estimate)} J per sample above rest, {span(joules)} ({energy.source})"


def _speedup(comparison: Comparison, other: str) -> str:
    speedup = comparison.speedup
    sure = f"{100 * speedup.confidence:.4g} %"
    bounds = f"{gain_span(speedup)}, {sure} interval, {comparison.pairs} pairs"
    return (
        f"{significant(speedup.estimate)}x the speed of {other} ({bounds}): "
        f"{comparison.change}; differences up to {100 * comparison.delta:.2g}% are this machine's own"
    )


def _compared(role: str, one: Compared, unit: TimeUnit) -> tuple[str | Text, ...]:
    median = one.summary.quantile(0.5).interval_ns
    name = Text(clean(f"{role}  {one.name} ({one.backend} {one.precision})"))
    sizes = (bytes_of(one.size_bytes), peak_of(one.summary.peak_memory_bytes))
    per_s = one.summary.throughput_per_s
    if one.summary.scenario == "offline" and per_s is not None:
        return (name, f"{significant(per_s.estimate)} samples per s", span(per_s), *sizes)
    if median is None:
        return (name, "-", Text(clean(one.summary.quantile(0.5).refused)), *sizes)
    interval = unit.scaled(median)
    return (name, f"{significant(interval.estimate)} {unit.name}", span(interval), *sizes)


def _flags(console: Console, flags: Iterable[str]) -> None:
    from edgeport.report.flags import flag_notes

    for note in flag_notes(flags):
        style = "dim" if note.outcome is Outcome.PASS else "yellow"
        console.print(Text(clean(f"flag: {note.flag}: {note.words}"), style=style))


def _calls(summary: LatencySummary) -> str:
    return f"{summary.calls} calls, worth {summary.effective_calls:.0f} independent ones"


def _verdict(console: Console, outcome: Outcome, reason: str) -> None:
    _answer(console, str(outcome).upper(), outcome, reason)


def _answer(console: Console, word: str, outcome: Outcome, reason: str) -> None:
    text = Text(word, style=_STYLES.get(outcome, "bold yellow"))
    if reason:
        text.append(f": {clean(reason)}", style="not bold")
    console.print(text)


def _unit(*summaries: LatencySummary) -> TimeUnit:
    known = [one.interval_ns for summary in summaries for one in summary.quantiles if one.interval_ns is not None]
    return TimeUnit.fitting(min((interval.estimate for interval in known), default=1e6))


def _time(nanoseconds: float) -> str:
    unit = TimeUnit.fitting(nanoseconds)
    return f"{significant(nanoseconds / unit.nanoseconds)} {unit.name}"


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(headers), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _named(rows: Sequence[tuple[str, str]]) -> Table:
    table = _table()
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(clean(value)))
    return table
