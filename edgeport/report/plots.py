"""The report's plots, as Bokeh figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import Candidate, Interval, RunResult
from edgeport.report.figures import AccuracyUnit, LatencyUnit
from edgeport.report.frame import Frame, round_ticks
from edgeport.report.look import Look
from edgeport.report.samples import distribution, process_medians, series

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class that Bokeh spells small)

__all__ = ["Plots"]

_GREY = "#747d89"  # can be read on white and on black
_GOOD = "#2da44e"
_BAD = "#d1483f"
_GRID_ALPHA = 0.22
_LOW, _TALL = 320, 400


@dataclass(frozen=True, kw_only=True)
class Plots:
    """Draws one result.

    Attributes:
        result: What the run found.
        looks: Candidate name to its look.
        latency, accuracy: Units.

    """

    result: RunResult
    looks: dict[str, Look]
    latency: LatencyUnit
    accuracy: AccuracyUnit

    def pareto(self) -> Figure | None:
        """Accuracy over median latency, with both intervals; None where no candidate has both."""
        from bokeh.models import BoxAnnotation, CustomJS, LabelSet

        points = [(c, p50) for c in self.result.candidates if c.accuracy and (p50 := _median(c))]
        if not points:
            return None
        plot = _figure(height=430, x_axis_type="log")
        plot.xaxis.axis_label = f"median latency, {self.latency.name} (log scale; left is faster)"
        plot.yaxis.axis_label = f"{self.accuracy.metric}{self.accuracy.sign and ', %'} (up is better)"
        limit = self._accuracy_limit()
        source = self._pareto_source(points)
        frame = Frame.around(source.data, limit, most=100.0 if self.accuracy.sign else None)
        source.data.update(frame.label_offsets(source.data))
        plot.y_range.start, plot.y_range.end = frame.bottom, frame.top
        _log_range(plot, frame.left, frame.right)
        if limit is not None:
            plot.add_layout(BoxAnnotation(top=limit, fill_color=_BAD, fill_alpha=0.07, line_color=None))
            _line_at(plot, "width", limit, _BAD, "out of the accuracy budget")
        self._frontier(plot, points, frame.right)
        plot.segment("x0", "y", "x1", "y", source=source, color="colour", line_width=2, alpha=0.75)
        plot.segment("x", "y0", "x", "y1", source=source, color="colour", line_width=2, alpha=0.75)
        plot.scatter(
            "x",
            "y",
            source=source,
            marker="marker",
            size="size",
            fill_color="colour",
            line_color="ring",
            line_width="ring_width",
            name="points",
        )
        labels = LabelSet(
            x="x",
            y="y",
            text="label",
            x_offset="dx",
            y_offset="dy",
            source=source,
            text_font_size="12px",
            text_color="colour",
            text_font_style="bold",
            text_align="align",
        )
        plot.add_layout(labels)
        # On a telephone they would cover each other; the marks are those of the table.
        narrow = CustomJS(args={"labels": labels}, code="labels.visible = cb_obj.inner_width > 560")
        plot.js_on_change("inner_width", narrow)
        _hover(plot, [("", "@label"), ("p50", "@p50"), (self.accuracy.metric, "@accuracy")], names=["points"])
        return plot

    def _pareto_source(self, points: Sequence[tuple[Candidate, Interval]]):  # type: ignore[no-untyped-def] # noqa: ANN202
        from bokeh.models import ColumnDataSource

        scale, ns = self.accuracy.scale, self.latency.ns
        data: dict[str, list[object]] = {}
        for candidate, p50 in points:
            look, accuracy = self.looks[candidate.name], candidate.accuracy
            if accuracy is None:
                continue
            chosen = candidate.name == self.result.chosen
            row = {
                "x": p50.estimate / ns,
                "x0": p50.low / ns,
                "x1": p50.high / ns,
                "y": accuracy.value.estimate * scale,
                "y0": accuracy.value.low * scale,
                "y1": accuracy.value.high * scale,
                "colour": look.colour,
                "marker": look.marker,
                "size": 17 if chosen else 12,
                "ring": _GOOD if chosen else look.colour,
                "ring_width": 4 if chosen else 1,
                "label": _plain(candidate.name) + (" (ships)" if chosen else ""),
                "p50": f"{self.latency.text(p50.estimate)} ({self.latency.span(p50)})",
                "accuracy": f"{self.accuracy.text(accuracy.value.estimate)} ({self.accuracy.span(accuracy.value)})",
            }
            for key, value in row.items():
                data.setdefault(key, []).append(value)
        return ColumnDataSource(data)

    def _accuracy_limit(self) -> float | None:
        """The accuracy at which the budget is used up, as shown; None without a reference."""
        for candidate in self.result.candidates:
            if candidate.accuracy is not None:
                reference = candidate.accuracy.value.estimate + candidate.accuracy.drop.estimate
                return (reference - self.result.budget.accuracy_drop) * self.accuracy.scale
        return None

    def _frontier(self, plot: Figure, points: Sequence[tuple[Candidate, Interval]], right: float) -> None:
        """A step line through the candidates that no other beats in both."""
        best, xs, ys = -np.inf, [], []
        for candidate, p50 in sorted(points, key=lambda point: point[1].estimate):
            value = candidate.accuracy.value.estimate if candidate.accuracy else -np.inf
            if value > best:
                best = value
                xs.append(p50.estimate / self.latency.ns)
                ys.append(value * self.accuracy.scale)
        # To the frame's edge: whatever is slower than the best must be beaten by it too.
        xs.append(right)
        ys.append(ys[-1])
        plot.step(xs, ys, mode="after", color=_GREY, line_dash="dashed", line_width=1.5, alpha=0.8)

    def drops(self) -> Figure | None:
        """Accuracy lost against the reference, with its interval, and the budget; None where none was judged."""
        judged = [c for c in self.result.candidates if c.accuracy]
        if not judged:
            return None
        plot = self._rows([c.name for c in judged], height=_LOW)
        plot.xaxis.axis_label = f"{self.accuracy.metric} lost, {self.accuracy.difference} (left is better)"
        scale, names = self.accuracy.scale, [_plain(c.name) for c in judged]
        drops, seen = [c.accuracy.drop for c in judged if c.accuracy], [self.looks[c.name] for c in judged]
        colours = [look.colour for look in seen]
        lows, highs = [scale * drop.low for drop in drops], [scale * drop.high for drop in drops]
        plot.segment(lows, names, highs, names, color=colours, line_width=3)
        middles = [scale * drop.estimate for drop in drops]
        plot.scatter(middles, names, marker=[look.marker for look in seen], size=11, color=colours)
        budget = self.result.budget.accuracy_drop * scale
        low, high = min([*lows, 0.0]), max([*highs, budget])
        room = 0.08 * max(high - low, 1e-9)
        plot.x_range.start, plot.x_range.end = low - room, high + 2 * room
        _line_at(plot, "height", 0.0, _GREY, "")
        _line_at(plot, "height", budget, _BAD, "budget")
        return plot

    def processes(self) -> Figure | None:
        """Each process's median, and the interval of p50; None where nothing was timed."""
        timed = [c for c in self.result.candidates if c.name in self.result.measurements and _median(c)]
        if not timed:
            return None
        plot = self._rows([c.name for c in timed], height=_TALL, log=True)
        plot.xaxis.axis_label = f"median of each process, {self.latency.name} (log scale)"
        bands: list[tuple[float, str, float, str]] = []
        dots: list[tuple[float, tuple[str, float], str]] = []
        for candidate in timed:
            colour, p50, name = self.looks[candidate.name].colour, _median(candidate), _plain(candidate.name)
            if p50 is None:
                continue
            medians = process_medians(self.result.measurements[candidate.name]) / self.latency.ns
            bands.append((p50.low / self.latency.ns, name, p50.high / self.latency.ns, colour))
            # Spread over the row's height, in the order in which they ran, so that equal ones can be told apart.
            offsets = np.linspace(0.24, -0.24, medians.size).tolist()
            dots += [(x, (name, offset), colour) for x, offset in zip(medians.tolist(), offsets, strict=True)]
        low, rows, high, colours = (list(column) for column in zip(*bands, strict=True))
        plot.segment(low, rows, high, rows, color=colours, line_width=9, alpha=0.35)
        if dots:
            across, places, dot_colours = (list(column) for column in zip(*dots, strict=True))
            plot.scatter(across, places, size=7, color=dot_colours, alpha=0.9)
        seen = [*low, *high, *(x for x, _, _ in dots)]
        _log_range(plot, min(seen) / 1.12, max(seen) * 1.12)
        return plot

    def calls(self) -> Figure | None:
        """Which share of the calls took how long, per candidate; None where nothing was timed."""
        from bokeh.models import NumeralTickFormatter

        plot = _figure(height=_TALL, x_axis_type="log")
        plot.xaxis.axis_label = f"latency of one call, {self.latency.name} (log scale)"
        plot.yaxis.axis_label = "share of calls that took no longer"
        plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
        lows, highs = [], []
        for candidate in self.result.candidates:
            found = self.result.measurements.get(candidate.name)
            spread = distribution(found) if found is not None else None
            if spread is None:
                continue
            look = self.looks[candidate.name]
            plot.line(
                np.round(spread.latency_ns / self.latency.ns, 5),
                np.round(spread.share, 5),
                color=look.colour,
                line_dash=look.dash,
                line_width=3 if candidate.name == self.result.chosen else 2,
                legend_label=_plain(candidate.name),
            )
            # Beyond that, single calls that the system interrupted; they would take half of the width.
            lows.append(float(spread.latency_ns[0]) / self.latency.ns)
            highs.append(float(np.interp(0.995, spread.share, spread.latency_ns)) / self.latency.ns)
        if not lows:
            return None
        _log_range(plot, min(lows) / 1.08, max(highs) * 1.08)
        _legend_below(plot)
        return plot

    def pairs(self) -> Figure | None:
        """The winner against the best float, pair by pair; None where nothing was confirmed."""
        fast = self.result.confirmation.get(self.result.chosen)
        slow = self.result.confirmation.get(self.result.best_float)
        if fast is None or slow is None or self.result.chosen == self.result.best_float:
            return None
        ours, theirs = process_medians(fast), process_medians(slow)
        count = min(ours.size, theirs.size)
        if not count:
            return None
        plot = _figure(height=_LOW)
        plot.xaxis.axis_label = "pair of fresh processes"
        plot.yaxis.axis_label = "times as fast"
        self._gain_band(plot)
        colour = self.looks[self.result.chosen].colour
        numbers, gains = np.arange(1, count + 1), theirs[:count] / ours[:count]
        plot.segment(numbers, np.ones(count), numbers, gains, color=colour, line_width=2, alpha=0.35)
        plot.scatter(numbers, gains, size=11, color=colour, name="pairs")
        _line_at(plot, "width", 1.0, _BAD, "equally fast")
        plot.xaxis.ticker = list(range(1, count + 1))
        low, high = min(1.0, float(gains.min())), max(1.0, float(gains.max()))
        room = max(high - low, 0.05)
        plot.y_range.start, plot.y_range.end = low - 0.14 * room, high + 0.1 * room
        _hover(plot, [("pair", "@x"), ("times as fast", "@y{0.000}")], names=["pairs"])
        return plot

    def _gain_band(self, plot: Figure) -> None:
        from bokeh.models import BoxAnnotation

        against = self.result.candidate(self.result.chosen).against_float
        if against is None:
            return
        low, high = against.speedup.low, against.speedup.high
        plot.add_layout(BoxAnnotation(bottom=low, top=high, fill_color=_GOOD, fill_alpha=0.14, line_color=None))
        _line_at(plot, "width", against.speedup.estimate, _GOOD, "")

    def over_time(self) -> list[tuple[str, Figure]]:
        """Each candidate's calls in the order in which they were made, in bins: median, smallest, largest."""
        found = []
        for candidate in self.result.candidates:
            measurement = self.result.measurements.get(candidate.name)
            binned = series(measurement) if measurement is not None else None
            if binned is None:
                continue
            ns, look = self.latency.ns, self.looks[candidate.name]
            plot = _figure(height=170, tools="")
            plot.yaxis.axis_label = self.latency.name
            # One call that was interrupted would press all others into a line.
            middle, top = float(np.median(binned.median)), float(binned.median.max())
            plot.y_range.start = min(float(np.quantile(binned.low, 0.01)), middle * 0.92) / ns
            plot.y_range.end = max(top * 1.05, middle * 1.15) / ns
            call, median = np.round(binned.call, 1), np.round(binned.median / ns, 4)
            plot.segment(
                call,
                np.round(binned.low / ns, 4),
                call,
                np.round(binned.high / ns, 4),
                color=look.colour,
                alpha=0.22,
                line_width=1.5,
            )
            # One line for every other process: where the other ones are it has no points, so it breaks there.
            for parity, alpha in ((0, 0.95), (1, 0.55)):
                of = binned.process % 2 == parity
                plot.line(call, np.where(of, median, np.nan), color=look.colour, alpha=alpha, line_width=1.8)
            found.append((candidate.name, plot))
        return found

    def _rows(self, names: Sequence[str], *, height: int, log: bool = False) -> Figure:
        """A figure with one row per candidate, the first on top; at least so high."""
        height = max(height, 70 + 24 * len(names))
        plot = _figure(
            height=height, y_range=[_plain(name) for name in reversed(names)], x_axis_type="log" if log else "linear"
        )
        plot.ygrid.grid_line_color = None
        return plot


def _median(candidate: Candidate) -> Interval | None:
    return candidate.latency.quantile(0.5).interval_ns if candidate.latency is not None else None


def _figure(*, height: int, tools: str = "pan,box_zoom,wheel_zoom,reset,save", **options: object) -> Figure:
    """An empty figure without a background; the page gives it one, light or dark."""
    from bokeh.plotting import figure

    plot = figure(height=height, sizing_mode="stretch_width", tools=tools, **options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.toolbar.active_scroll = None
    plot.background_fill_color = None
    plot.border_fill_color = None
    plot.outline_line_color = None
    plot.grid.grid_line_color = _GREY
    plot.grid.grid_line_alpha = _GRID_ALPHA
    for axis in plot.axis:
        axis.axis_line_color = _GREY
        axis.major_tick_line_color = _GREY
        axis.minor_tick_line_color = None
        axis.major_label_text_color = _GREY
        axis.axis_label_text_color = _GREY
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
    return plot


def _log_range(plot: Figure, low: float, high: float) -> None:
    """Sets the x axis, with round ticks; Bokeh's own leave most of a decade without any."""
    plot.x_range.start, plot.x_range.end = low, high
    plot.xaxis.ticker = round_ticks(low, high)


def _line_at(plot: Figure, dimension: str, place: float, colour: str, text: str) -> None:
    """A line across the figure ("width": horizontal), with its name beside it."""
    from bokeh.models import Label, Span

    plot.add_layout(Span(location=place, dimension=dimension, line_color=colour, line_width=1.5, line_dash="dashed"))
    if not text:
        return
    style = {"text": text, "text_color": colour, "text_font_size": "11px"}
    if dimension == "width":
        plot.add_layout(Label(x=6, x_units="screen", y=place, y_offset=-16, **style))
    else:
        plot.add_layout(Label(x=place, y=4, y_units="screen", x_offset=5, **style))


def _hover(plot: Figure, tips: list[tuple[str, str]], names: list[str]) -> None:
    from bokeh.models import HoverTool

    plot.add_tools(HoverTool(tooltips=tips, renderers=[r for r in plot.renderers if r.name in names]))


def _legend_below(plot: Figure) -> None:
    legend = plot.legend[0]
    legend.click_policy = "mute"
    legend.background_fill_alpha = 0.0
    legend.border_line_color = None
    legend.label_text_color = _GREY
    legend.label_text_font_size = "12px"
    legend.ncols = 2
    legend.location = "center"
    legend.label_width = 8 * max(len(item.label.value) for item in legend.items)
    legend.spacing = 2
    legend.margin = 0
    plot.add_layout(legend, "below")


def _plain(name: str) -> str:
    """Bokeh takes text between two `$$` for TeX, and would fetch a renderer for it."""
    return name.replace("$", "\N{FULLWIDTH DOLLAR SIGN}").replace("\\", "\N{FULLWIDTH REVERSE SOLIDUS}")
