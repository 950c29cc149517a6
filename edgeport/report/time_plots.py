"""Every call over the time of the experiment, with what the machine did meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import Candidate, Measurement, Outcome
from edgeport.devices.latency.steady_state import Shape
from edgeport.devices.latency.validity_flags import measurement_flags
from edgeport.report.canvas import BAD, GREY, OPEN, Scene, add_hover, new_figure, plain
from edgeport.report.figures import seconds_text
from edgeport.report.flags import FlagNote, flag_notes
from edgeport.report.style import CandidateStyle
from edgeport.report.timeline import Curve, DroppedRound, Slot, Timeline, timeline

if TYPE_CHECKING:
    from bokeh.models import LayoutDOM
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class that Bokeh spells small)

__all__ = ["MOST_BLOCKS", "TimeBlock", "TimePlot", "over_time", "time_blocks"]

MOST_BLOCKS = 24
"""Of candidates over time; a page with more could not be opened on a small machine."""
_ALL_BUCKETS, _LEAST_BUCKETS, _MOST_BUCKETS = 24_000, 120, 480
"""Of all candidates together, and of one: the file must stay small with many candidates."""
_TALL, _LOW = 200, 84
_LEFT = 62  # room for the numbers on the left, the same in every panel, so that they stand under each other
_MOST_TICKS = 12
_ZONE_COLOURS = ("#d1483f", "#d9822b", "#a3a021", "#7a8594")
_UNSTEADY = {
    Shape.SLOWDOWN: "got slower while it ran",
    Shape.CYCLIC: "went back and forth between levels",
    Shape.UNSTEADY: "did not come to rest",
    Shape.SHORT: "had too few calls to tell whether it came to rest",
}


@dataclass(frozen=True, kw_only=True)
class TimePlot:
    """One candidate.

    Attributes:
        figure: The panels, under each other.
        sentences: What the panels can't show, or what is not there.

    """

    figure: LayoutDOM
    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TimeBlock:
    """One candidate in one experiment, as the page shows it.

    Attributes:
        title: The candidate, and which experiment.
        look: Its mark.
        plot: Its panels.
        flags: What is unusual about this measurement, the gravest first.
        folded: It is shown only when asked for: nothing ships by it and nothing is wrong with it.

    """

    title: str
    look: CandidateStyle
    plot: TimePlot
    flags: tuple[FlagNote, ...]
    folded: bool


def time_blocks(scene: Scene) -> list[TimeBlock]:
    """What ships, the best float, and whatever is in doubt; then the confirmation's pairs, and the others.

    At most `MOST_BLOCKS` of them.
    """
    result = scene.result
    timed = [c for c in result.candidates if c.name in result.measurements]
    shown = [c for c in timed if c.name in (result.chosen, result.best_float) or _doubted(c)]
    again = [name for name in dict.fromkeys((result.chosen, result.best_float)) if name in result.confirmation]
    confirmed = {name: result.confirmation[name] for name in again}
    wanted = [
        *((c.name, c.name, result.measurements, False) for c in shown),
        *((f"{name}, measured again", name, confirmed, True) for name in again),
        *((c.name, c.name, result.measurements, True) for c in timed if c not in shown),
    ]
    blocks = []
    for title, name, experiment, folded in wanted[:MOST_BLOCKS]:
        plot = over_time(scene, name, experiment[name], experiment)
        if plot is None:
            continue
        summary = result.candidate(name).latency if experiment is result.measurements else None
        flags = flag_notes(summary.flags if summary is not None else measurement_flags(experiment[name]))
        blocks.append(TimeBlock(title=title, look=scene.looks[name], plot=plot, flags=flags, folded=folded))
    return blocks


def _doubted(candidate: Candidate) -> bool:
    outcomes = {candidate.outcome, candidate.latency.outcome if candidate.latency is not None else candidate.outcome}
    return bool(outcomes & {Outcome.INVALID, Outcome.INCONCLUSIVE})


def over_time(
    scene: Scene, name: str, measurement: Measurement, experiment: Mapping[str, Measurement]
) -> TimePlot | None:
    """Latency, and under it the load, the fixed work, the clock and the temperature that there are.

    Args:
        scene: Units and looks.
        name: Of the candidate.
        measurement: Of the candidate.
        experiment: Of all candidates that were timed beside it.

    Returns:
        None where there is no reading.

    """
    from bokeh.layouts import column

    wanted = _ALL_BUCKETS // max(1, len(scene.result.measurements) + len(scene.result.confirmation))
    found = timeline(measurement, experiment, buckets=min(_MOST_BUCKETS, max(_LEAST_BUCKETS, wanted)))
    if found is None:
        return None
    top = _latency(scene, name, found)
    panels = [top, *(panel for draw in _PANELS if (panel := draw(found, top)) is not None)]
    for panel in panels[:-1]:
        panel.xaxis.major_label_text_font_size = "0px"
        panel.xaxis.major_tick_line_color = None
    panels[-1].xaxis.axis_label = "round of the experiment, a fresh process in each"
    panels[-1].height += 38
    return TimePlot(figure=column(panels, sizing_mode="stretch_width"), sentences=tuple(_sentences(found)))


def _latency(scene: Scene, name: str, found: Timeline) -> Figure:
    buckets, ns, colour = found.buckets, scene.latency.ns, scene.looks[name].colour
    low, median, high = buckets.low / ns, buckets.median / ns, buckets.high / ns
    # Single calls that were interrupted would press all others into a line.
    middle = float(np.nanmedian(median))
    top = max(float(np.nanquantile(median, 0.99)) * 1.06, middle * 1.15)
    bottom = min(float(np.nanquantile(low, 0.01)), middle * 0.92)
    plot = _panel(found, f"Latency of one call, {scene.latency.name}", height=_TALL)
    plot.y_range.start, plot.y_range.end = bottom - 0.04 * (top - bottom), top
    _shade(plot, found)
    plot.segment(buckets.at_s, low, buckets.at_s, high, color=colour, alpha=0.3, line_width=1.5)
    columns = {"at": buckets.at_s, "low": low, "median": median, "high": high}
    source = columns | {"calls": buckets.calls, "round": buckets.round + 1}
    plot.line("at", "median", source=source, color=colour, line_width=1.8)
    plot.scatter("at", "median", source=source, color=colour, size=2.5, name="buckets")
    over = high > top
    if over.any():
        place = np.full(int(over.sum()), top - 0.03 * (top - bottom))
        plot.scatter(buckets.at_s[over], place, marker="triangle", size=5, color=colour, alpha=0.8)
    tips = [("round", "@round"), ("calls", "@calls"), ("median", "@median{0.000}")]
    add_hover(plot, [*tips, ("from", "@low{0.000}"), ("to", "@high{0.000}")], ["buckets"], mode="vline")
    return plot


def _shade(plot: Figure, found: Timeline) -> None:
    """What is not counted (grey), what never came to rest (yellow), and rounds that were disturbed (hatched)."""
    low, high = plot.y_range.start, plot.y_range.end
    cuts = [(slot.begin_s, slot.cut_s) for slot in found.slots if slot.cut_s is not None]
    unsteady = [(slot.begin_s, slot.end_s) for slot in found.slots if slot.shape is not Shape.STEADY]
    disturbed = [(one.begin_s, one.end_s) for one in found.places if _is_disturbed(one)]
    for spans, colour, alpha in ((unsteady, OPEN, 0.16), (cuts, GREY, 0.3)):
        if spans:
            left, right = zip(*spans, strict=True)
            plot.quad(
                left=left, right=right, bottom=low, top=high, fill_color=colour, fill_alpha=alpha, line_color=None
            )
    if cuts:
        ends = [end for _, end in cuts]
        plot.segment(ends, low, ends, high, color=GREY, line_width=1.5, line_dash="dashed")
    if disturbed:
        left, right = zip(*disturbed, strict=True)
        hatch = {"hatch_pattern": "/", "hatch_color": BAD, "hatch_alpha": 0.55, "hatch_scale": 8, "hatch_weight": 1}
        plot.quad(left=left, right=right, bottom=low, top=high, fill_alpha=0, line_color=None, **hatch)


def _is_disturbed(one: Slot | DroppedRound) -> bool:
    return isinstance(one, DroppedRound) or one.disturbed


def _others(found: Timeline, top: Figure) -> Figure | None:
    told = [(slot.begin_s, slot.end_s, 100 * slot.others) for slot in found.slots if slot.others is not None]
    if not told:
        return None
    plot = _panel(found, "Other processes' share of the processors, %", beside=top)
    left, right, share = zip(*told, strict=True)
    plot.quad(left=left, right=right, bottom=0, top=share, fill_color=GREY, fill_alpha=0.55, line_color=None)
    plot.y_range.start, plot.y_range.end = 0, max(10.0, 1.15 * max(share))
    return plot


def _canary(found: Timeline, top: Figure) -> Figure | None:
    if found.canary is None:
        return None
    plot = _panel(found, "Fixed work before and after each process (the canary), ms", beside=top)
    _draw(plot, [found.canary], 1e6, [GREY], least_room=0.1)
    return plot


def _exchange(found: Timeline, top: Figure) -> Figure | None:
    if found.exchange is None:
        return None
    plot = _panel(found, "One processor reads 512 KiB that another wrote (cache lines only), µs", beside=top)
    _draw(plot, [found.exchange], 1e3, [GREY], least_room=0.1)
    return plot


def _frequency(found: Timeline, top: Figure) -> Figure | None:
    if found.frequency is None:
        return None
    plot = _panel(found, "Clock frequency of the fastest processor, GHz", beside=top)
    _draw(plot, [found.frequency], 1e6, ["#2f81f7"], least_room=0.06)
    return plot


def _temperature(found: Timeline, top: Figure) -> Figure | None:
    if not found.temperatures:
        return None
    names = ", ".join(curve.name for curve in found.temperatures)
    plot = _panel(found, f"Temperature, °C ({plain(names)})", beside=top)
    colours = _ZONE_COLOURS[: len(found.temperatures)]
    _draw(plot, found.temperatures, 1e3, colours, least_room=0.06)
    return plot


_Panel = Callable[[Timeline, "Figure"], "Figure | None"]
_PANELS: tuple[_Panel, ...] = (_others, _canary, _exchange, _frequency, _temperature)


def _draw(plot: Figure, curves: Sequence[Curve], unit: float, colours: Sequence[str], *, least_room: float) -> None:
    """Lines, and a range that does not make noise look like a change."""
    for curve, colour in zip(curves, colours, strict=True):
        plot.line(curve.at_s, curve.value / unit, color=colour, line_width=1.6)
        plot.scatter(curve.at_s, curve.value / unit, color=colour, size=3)
    values = np.concatenate([curve.value for curve in curves]) / unit
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(0.15 * (high - low), least_room * abs(high) / 2)
    plot.y_range.start, plot.y_range.end = low - room, high + room


def _panel(found: Timeline, title: str, *, height: int = _LOW, beside: Figure | None = None) -> Figure:
    """An empty panel whose axis of time has one tick per round."""
    options = {} if beside is None else {"x_range": beside.x_range}
    plot = new_figure(height=height, tools="", **options)
    plot.title.text = title
    plot.title.text_color = GREY
    plot.title.text_font_size = "12px"
    plot.title.text_font_style = "normal"
    plot.min_border_left = _LEFT
    plot.min_border_right = 6
    plot.xgrid.grid_line_color = None
    plot.yaxis.ticker.desired_num_ticks = 5 if beside is None else 3
    if beside is None:
        room = 0.01 * found.end_s
        plot.x_range.start, plot.x_range.end = -room, found.end_s + room
    places = found.places[:: math.ceil(len(found.places) / _MOST_TICKS)]
    middles = [(one.begin_s + one.end_s) / 2 for one in places]
    plot.xaxis.ticker = middles
    words = [f"{one.round + 1}" + (" dropped" if isinstance(one, DroppedRound) else "") for one in places]
    plot.xaxis.major_label_overrides = dict(zip(middles, words, strict=True))
    return plot


def _sentences(found: Timeline) -> list[str]:
    said = [_span(found)]
    for shape, words in _UNSTEADY.items():
        rounds = [slot.round for slot in found.slots if slot.shape is shape]
        if rounds:
            said.append(f"In {_rounds(rounds)} the process {words}: all its calls count.")
    if found.dropped:
        left_out = _rounds([one.round for one in found.dropped])
        said.append(f"Left out, of all candidates, because the fixed work took too long: {left_out}.")
    kept = [slot.round for slot in found.slots if slot.disturbed]
    if kept:
        said.append(f"Disturbed, but kept, since too few rounds would be left: {_rounds(kept)}.")
    absent = [
        words
        for words, there in (
            ("clock frequency", found.frequency is not None),
            ("temperature", bool(found.temperatures)),
            ("the load of other processes", any(slot.others is not None for slot in found.slots)),
            ("the time of fixed work", found.canary is not None),
        )
        if not there
    ]
    if absent:
        said.append(f"Not available on this machine: {', '.join(absent)}.")
    return said


def _span(found: Timeline) -> str:
    timed_s = sum(slot.end_s - slot.begin_s for slot in found.slots)
    count = len(found.slots)
    said = f"{count} process{'es' if count > 1 else ''}, {seconds_text(timed_s)} of calls"
    started = [slot.started_s for slot in found.slots if slot.started_s is not None]
    if len(started) < 2:
        return f"{said}."
    return f"{said} within {seconds_text(max(started) - min(started))}; in between, other candidates ran."


def _rounds(indexes: Sequence[int]) -> str:
    numbers = ", ".join(str(index + 1) for index in sorted(indexes))
    return f"round {numbers}" if len(indexes) == 1 else f"rounds {numbers}"
