"""The result of a run as a table, the reasons of every refusal, and the answer in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, bytes_of, fixed, gain_span, significant, span
from edgeport.cli.output import lines
from edgeport.cli.render_compression import draw_compression
from edgeport.cli.render_summary import draw_summary
from edgeport.cli.render_tune import draw_kept
from edgeport.cli.text import clean
from edgeport.contracts import Candidate, Interval, Outcome, Placement, RunResult
from edgeport.report.confirmation import AGAIN, again_mark, measured_again

__all__ = ["draw_run"]

# Widths of the terminal from which the columns that matter less are shown.
_FOR_P90, _FOR_SIZE, _FOR_PLACEMENT = 100, 108, 120
_FOR_WIDE_GAPS = 84
# Codes of refusals that would make their column wider than it needs to be.
_SHORT = {
    "BACKEND_CRASH": "crashed",
    "BACKEND_FAILED": "failed",
    "BACKEND_UNSUPPORTED": "unsupported",
    "CHILD_FAILED": "failed",
    "CONFIRMATION_INVALID": "invalid",
    "LATENCY_INCONCLUSIVE": "latency",
    "LATENCY_INVALID": "latency",
    "NOT_AS_PLANNED": "not as asked",
    "PLACEMENT": "not as asked",
    "RESOURCE_LIMIT": "memory",
}


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column: its header, what stands in a row, and the width from which it is shown."""

    header: str
    cell: Callable[[Candidate], tuple[str, str]]
    right: bool = True
    from_width: int = 0


def draw_run(console: Console, result: RunResult) -> None:
    """Draws everything that a person wants to see at the end of a run; of several targets, one after the other."""
    if result.targets:
        for target in result.targets:
            _draw_one(console, target)
        draw_summary(console, result)
    else:
        _draw_one(console, result)
    took = f"  {'took':<8}{result.elapsed_s:.0f} s"
    steps = f", {result.reused} steps answered by the store" if result.reused else ""
    lines(console, Text(took + steps, style="dim"))


def _draw_one(console: Console, result: RunResult) -> None:
    lines(console, Text(), _headline(result))
    columns = _columns(result)
    shown = [column for column in columns if console.width >= column.from_width]
    console.print(_table(shown, result, console.width))
    hidden = [column.header.partition("\n")[0] for column in columns if column not in shown]
    if hidden:
        console.print(Text(f"({', '.join(hidden)}: in a wider window, in the report and in --json)", style="dim"))
    again = measured_again(result, _time)
    if again:
        console.print(Text(clean(f"{AGAIN} {again}"), style="dim"))
    draw_compression(console, result)
    _draw_refusals(console, result)
    _draw_nearest(console, result)
    _draw_searches(console, result)
    _draw_answer(console, result)


def _headline(result: RunResult) -> Text:
    device = result.device
    text = Text(clean(f"{result.name} for {result.target}" if result.target else result.name), style="bold")
    text.append(f" on {clean(device.cpu or device.machine)}, {device.cores} cores", style="not bold")
    metric = next((c.accuracy for c in result.candidates if c.accuracy is not None), None)
    if metric is not None:
        text.append(
            f"; accuracy: {clean(metric.metric)} of {metric.samples} samples against {clean(metric.reference)}",
            style="not bold",
        )
    return text


def _table(columns: Sequence[_Column], result: RunResult, width: int) -> Table:
    gap = 2 if width >= _FOR_WIDE_GAPS else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.header, justify="right" if column.right else "left", no_wrap=column.right)
    for index, candidate in enumerate(result.candidates):
        style = _style(candidate, result)
        table.add_row(*(_cell(column.cell(candidate), style) for column in columns))
        if index + 1 < len(result.candidates):
            table.add_row()
    return table


def _columns(result: RunResult) -> Sequence[_Column]:
    unit = _unit(result)
    return (
        _Column(header="backend\nprecision", cell=_name, right=False),
        _Column(header="accuracy\n95 %", cell=_accuracy),
        _Column(header="drop\n95 %", cell=_drop),
        _Column(header=f"p50 {unit.name}\n95 %", cell=lambda c: _latency(c, 0.5, unit)),
        _Column(header=f"p90 {unit.name}\n95 %", cell=lambda c: _latency(c, 0.9, unit), from_width=_FOR_P90),
        _Column(header="gain\n95 %", cell=lambda c: _gain(c, result)),
        _Column(header="size", cell=_size, from_width=_FOR_SIZE),
        _Column(header="ran as\nnodes", cell=_ran_as, right=False, from_width=_FOR_PLACEMENT),
        _Column(header="verdict", cell=lambda c: _verdict(c, result), right=False),
    )


def _cell(rows: tuple[str, str], style: str) -> Text:
    text = Text(clean(rows[0]), style=style)
    if rows[1]:
        text.append("\n" + clean(rows[1]), style="not bold dim")
    return text


def _style(candidate: Candidate, result: RunResult) -> str:
    if candidate.name == result.chosen:
        return "bold green"
    return "" if candidate.name == result.best_float else "dim" if candidate.refusal is not None else ""


def _unit(result: RunResult) -> TimeUnit:
    medians = [
        quantile.interval_ns.estimate
        for candidate in result.candidates
        if candidate.latency is not None and (quantile := candidate.latency.quantile(0.5)).interval_ns is not None
    ]
    return TimeUnit.fitting(min(medians, default=1e6))


def _name(candidate: Candidate) -> tuple[str, str]:
    # A second candidate of the same backend and precision has a number in its name.
    return candidate.backend, candidate.name.removeprefix(f"{candidate.backend} ")


def _accuracy(candidate: Candidate) -> tuple[str, str]:
    if candidate.accuracy is None:
        return "-", ""
    value = candidate.accuracy.value
    return significant(value.estimate, 4), _bounds(value)


def _drop(candidate: Candidate) -> tuple[str, str]:
    if candidate.accuracy is None:
        return "-", ""
    drop = candidate.accuracy.drop
    return fixed(drop.estimate, _decimals(drop)), _bounds(drop)


def _bounds(interval: Interval) -> str:
    return span(interval, places=_decimals(interval))


def _decimals(interval: Interval) -> int:
    """Places behind the point in whose unit the interval is 5 to 50 wide: fewer hide it, more pretend."""
    width = interval.high - interval.low
    if not math.isfinite(width) or width <= 0:
        return 3
    return min(max(math.ceil(math.log10(5 / width)), 0), 6)


def _latency(candidate: Candidate, q: float, unit: TimeUnit) -> tuple[str, str]:
    if candidate.latency is None:
        return "-", ""
    quantile = candidate.latency.quantile(q)
    if quantile.interval_ns is None:
        return "-", "not known"
    interval = unit.scaled(quantile.interval_ns)
    return significant(interval.estimate), span(interval)


def _gain(candidate: Candidate, result: RunResult) -> tuple[str, str]:
    if candidate.name == result.best_float:
        return "1x", ""
    if candidate.against_float is None:
        return "-", ""
    speedup = candidate.against_float.speedup
    return f"{significant(speedup.estimate)}x{again_mark(candidate)}", gain_span(speedup)


def _time(ns: float) -> str:
    unit = TimeUnit.fitting(ns)
    return f"{significant(ns / unit.nanoseconds)} {unit.name}"


def _size(candidate: Candidate) -> tuple[str, str]:
    return (bytes_of(candidate.artifact.size_bytes), "") if candidate.artifact is not None else ("-", "")


def _ran_as(candidate: Candidate) -> tuple[str, str]:
    if candidate.placement is None or candidate.placement.summary() == Placement(nodes=(), source="").summary():
        return "-", ""
    first, _, rest = candidate.placement.summary().partition(", ")
    return first, rest


def _verdict(candidate: Candidate, result: RunResult) -> tuple[str, str]:
    best = "fastest" if result.as_given else "best float"
    if candidate.name == result.chosen:
        return "ships", best if candidate.name == result.best_float else ""
    if candidate.name == result.best_float:
        return best, "baseline" if candidate.baseline else ""
    if candidate.refusal is not None and candidate.refusal.code == "BASELINE":
        return "baseline", "not asked"
    if candidate.outcome is Outcome.UNMEASURED:
        return ("not run", "built only") if candidate.artifact is not None else ("not built", "")
    if candidate.refusal is None:
        return str(candidate.outcome), ""
    code = candidate.refusal.code
    return "refused", _SHORT.get(code, code.lower().replace("_", " "))


def _draw_refusals(console: Console, result: RunResult) -> None:
    refused = [candidate for candidate in result.candidates if candidate.refusal is not None]
    if not refused:
        return
    lines(console, Text(), Text("Why the others do not ship", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for candidate in refused:
        if candidate.refusal is not None:
            table.add_row(Text(clean(candidate.name)), Text(clean(candidate.refusal.reason)))
    console.print(Padding(table, (0, 0, 0, 2)))


def _draw_nearest(console: Console, result: RunResult) -> None:
    """Where nothing ships: what comes nearest, each bound that it misses, and what would have to change."""
    if not result.nearest:
        return
    lines(console, Text(), Text("Nearest to shipping, and what each lacks", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for near in result.nearest:
        for index, lack in enumerate(near.lacks):
            ok = f"; {', '.join(near.kept)} ok" if near.kept and index + 1 == len(near.lacks) else ""
            row = Text(clean(f"{lack.text}{ok}"))
            row.append("\n" + clean(f"needs {lack.change}"), style="dim")
            table.add_row(Text("" if index else clean(near.name)), row)
    console.print(Padding(table, (0, 0, 0, 2)))


def _draw_searches(console: Console, result: RunResult) -> None:
    """The nodes that a searched plan keeps in float, of the plans that are candidates."""
    for search in result.searches:
        if search.candidate:
            draw_kept(console, search.groups, f"{search.candidate} keeps in float")


def _draw_answer(console: Console, result: RunResult) -> None:
    console.print()
    for note in result.notes:
        console.print(Padding(Text(f"note: {clean(note)}", style="dim"), (0, 0, 0, 2)))
    if result.notes:
        console.print()
    console.print(_answer(result))
    places = {"bundle": result.bundle, "report": result.report}
    for name, path in places.items():
        if path is not None:
            lines(console, Text(f"  {name:<8}").append(clean(path)))


def _answer(result: RunResult) -> Text:
    if not result.chosen:
        return Text.assemble(("Nothing ships.", "bold red"), " No candidate kept within the budget; see above why.")
    chosen = result.candidate(result.chosen)
    text = Text.assemble((f"{clean(chosen.name)} ships", "bold green"))
    if result.as_given:
        text.append(": quantized already, it was judged and timed as it is")
    elif chosen.is_float:
        text.append(": nothing quantized was both accurate enough and surely faster")
    elif chosen.against_float is not None:
        speedup, other = chosen.against_float.speedup, chosen.against_float.against or result.best_float
        text.append(
            f": {significant(speedup.estimate)}x the speed of {clean(other)} ({gain_span(speedup)}, "
            f"{100 * speedup.confidence:g} % interval)"
        )
    if chosen.accuracy is not None:
        drop = chosen.accuracy.drop
        text.append(f"; {clean(chosen.accuracy.metric)} drops by {fixed(drop.estimate, _decimals(drop))}")
        text.append(f" ({_bounds(drop)}; {result.budget.accuracy_drop:g} is allowed)")
    if chosen.throughput is not None and chosen.throughput.per_s is not None and result.budget.throughput_per_s:
        per_s = chosen.throughput.per_s
        text.append(
            f"; {significant(per_s.estimate)} samples per s, {chosen.throughput.streams} calls at once "
            f"({span(per_s)}; {result.budget.throughput_per_s:g} are asked)"
        )
    text.append(".")
    if result.outcome is not Outcome.PASS:
        text.append(f" The budget as a whole: {result.outcome}.", style="bold yellow")
    return text
