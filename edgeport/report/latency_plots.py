"""The plots of latency: quantiles, processes, calls, and the pairs of the confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeport.devices.latency.comparison import paired_differences
from edgeport.report.canvas import (
    BAD,
    GOOD,
    GREY,
    Scene,
    add_hover,
    candidate_rows,
    legend_below,
    line_at,
    log_range,
    median_of,
    new_figure,
    plain,
)
from edgeport.report.confirmation import hardest_float
from edgeport.report.samples import Floats, distribution, process_medians

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class that Bokeh spells small)

__all__ = ["calls", "pairs", "processes", "quantiles"]

_LOW, _TALL = 320, 400
_TICKS_OF_HALF_A_PAGE = 6


def quantiles(scene: Scene) -> Figure | None:
    """The intervals of p50, p90, p99, ...; None where no candidate has one."""
    timed = [c for c in scene.result.candidates if median_of(c)]
    rows: list[tuple[float, float, float, tuple[str, float], str, str, str]] = []
    for candidate in timed:
        found = candidate.latency.quantiles if candidate.latency is not None else ()
        for offset, quantile in zip(np.linspace(0.28, -0.28, len(found)).tolist(), found, strict=True):
            interval = quantile.interval_ns
            if interval is None:
                continue
            ends = (
                interval.low / scene.latency.ns,
                interval.estimate / scene.latency.ns,
                interval.high / scene.latency.ns,
            )
            words = f"{scene.latency.text(interval.estimate)} ({scene.latency.span(interval)})"
            place, colour = (plain(candidate.name), offset), scene.looks[candidate.name].colour
            rows.append((*ends, place, colour, f"p{100 * quantile.q:g}", words))
    if not rows:
        return None
    names = ("low", "middle", "high", "row", "colour", "label", "words")
    data = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    # An interval without an upper end would take the whole width.
    right = min(max(data["high"]), 4 * max(data["middle"]))
    data["end"] = [min(high, right) for high in data["high"]]
    plot = candidate_rows([c.name for c in timed], height=_TALL, per_row=50, log=True)
    plot.xaxis.axis_label = f"latency of one call, {scene.latency.name} (log scale)"
    plot.segment("low", "row", "end", "row", source=data, color="colour", line_width=3, alpha=0.6)
    plot.scatter("middle", "row", source=data, color="colour", size=7, name="quantiles")
    style = {"x_offset": 6, "text_baseline": "middle", "text_font_size": "11px", "text_color": GREY}
    plot.text("end", "row", "label", source=data, **style)
    right *= (right / min(data["low"])) ** 0.08 * 1.04
    log_range(plot, min(data["low"]) / 1.1, right, most_ticks=_TICKS_OF_HALF_A_PAGE)
    add_hover(plot, [("", "@label"), ("", "@words")], names=["quantiles"])
    return plot


def processes(scene: Scene) -> Figure | None:
    """Each process's median, and the interval of p50; None where nothing was timed."""
    timed = [c for c in scene.result.candidates if c.name in scene.result.measurements and median_of(c)]
    if not timed:
        return None
    plot = candidate_rows([c.name for c in timed], height=_TALL, log=True)
    plot.xaxis.axis_label = f"median of each process, {scene.latency.name} (log scale)"
    bands: list[tuple[float, str, float, str]] = []
    dots: list[tuple[float, tuple[str, float], str]] = []
    for candidate in timed:
        colour, p50, name = scene.looks[candidate.name].colour, median_of(candidate), plain(candidate.name)
        if p50 is None:
            continue
        medians = process_medians(scene.result.measurements[candidate.name]) / scene.latency.ns
        bands.append((p50.low / scene.latency.ns, name, p50.high / scene.latency.ns, colour))
        # Spread over the row's height, in the order in which they ran, so that equal ones can be told apart.
        offsets = np.linspace(0.24, -0.24, medians.size).tolist()
        dots += [(x, (name, offset), colour) for x, offset in zip(medians.tolist(), offsets, strict=True)]
    low, rows, high, colours = (list(column) for column in zip(*bands, strict=True))
    plot.segment(low, rows, high, rows, color=colours, line_width=9, alpha=0.35)
    if dots:
        across, places, dot_colours = (list(column) for column in zip(*dots, strict=True))
        plot.scatter(across, places, size=7, color=dot_colours, alpha=0.9)
    seen = [*low, *high, *(x for x, _, _ in dots)]
    log_range(plot, min(seen) / 1.12, max(seen) * 1.12)
    return plot


def calls(scene: Scene) -> Figure | None:
    """Which share of the calls took how long, per candidate; None where nothing was timed."""
    from bokeh.models import NumeralTickFormatter

    plot = new_figure(height=_TALL, x_axis_type="log")
    plot.xaxis.axis_label = f"latency of one call, {scene.latency.name} (log scale)"
    plot.yaxis.axis_label = "share of calls that took no longer"
    plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    lows, highs = [], []
    for candidate in scene.result.candidates:
        found = scene.result.measurements.get(candidate.name)
        spread = distribution(found) if found is not None else None
        if spread is None:
            continue
        look = scene.looks[candidate.name]
        plot.line(
            np.round(spread.latency_ns / scene.latency.ns, 5),
            np.round(spread.share, 5),
            color=look.colour,
            line_dash=look.dash,
            line_width=3 if candidate.name == scene.result.chosen else 2,
            legend_label=plain(candidate.name),
        )
        # Beyond that, single calls that the system interrupted; they would take half of the width.
        lows.append(float(spread.latency_ns[0]) / scene.latency.ns)
        highs.append(float(np.interp(0.995, spread.share, spread.latency_ns)) / scene.latency.ns)
    if not lows:
        return None
    log_range(plot, min(lows) / 1.08, max(highs) * 1.08, most_ticks=_TICKS_OF_HALF_A_PAGE)
    legend_below(plot)
    return plot


def pairs(scene: Scene) -> Figure | None:
    """The winner against the float that was hardest to beat, pair by pair; None where nothing was confirmed."""
    fast = scene.result.confirmation.get(scene.result.chosen)
    slow = scene.result.confirmation.get(hardest_float(scene.result))
    if fast is None or slow is None or scene.result.chosen == scene.result.best_float:
        return None
    gains = np.exp(-paired_differences(slow, fast))
    count = gains.size
    if not count:
        return None
    plot = new_figure(height=_LOW)
    plot.xaxis.axis_label = "pair of fresh processes"
    plot.yaxis.axis_label = "times as fast"
    _gain_band(scene, plot)
    colour = scene.looks[scene.result.chosen].colour
    numbers = np.arange(1, count + 1)
    plot.segment(numbers, np.ones(count), numbers, gains, color=colour, line_width=2, alpha=0.35)
    plot.scatter(numbers, gains, size=11, color=colour, name="pairs")
    line_at(plot, "width", 1.0, BAD, "equally fast")
    plot.xaxis.ticker = list(range(1, count + 1))
    low, high = min(1.0, float(gains.min())), max(1.0, float(gains.max()), _band_top(scene, gains))
    room = max(high - low, 0.05)
    plot.y_range.start, plot.y_range.end = low - 0.14 * room, high + 0.1 * room
    add_hover(plot, [("pair", "@x"), ("times as fast", "@y{0.000}")], names=["pairs"])
    return plot


def _band_top(scene: Scene, gains: Floats) -> float:
    """The band's upper end, unless it would press the dots together."""
    against = scene.result.candidate(scene.result.chosen).against_float
    return min(against.speedup.high, 2 * float(gains.max())) if against is not None else 1.0


def _gain_band(scene: Scene, plot: Figure) -> None:
    from bokeh.models import BoxAnnotation

    against = scene.result.candidate(scene.result.chosen).against_float
    if against is None:
        return
    low, high = against.speedup.low, against.speedup.high
    plot.add_layout(BoxAnnotation(bottom=low, top=high, fill_color=GOOD, fill_alpha=0.14, line_color=None))
    line_at(plot, "width", against.speedup.estimate, GOOD, "")
