"""An empty plot in the report's style, and what is drawn into many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeport.contracts import Candidate, Interval, RunResult
from edgeport.report.axes_layout import round_ticks
from edgeport.report.figures import AccuracyUnit, LatencyUnit
from edgeport.report.sanitize import visible
from edgeport.report.style import CandidateStyle

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class that Bokeh spells small)

__all__ = [
    "BAD",
    "GOOD",
    "GREY",
    "OPEN",
    "Scene",
    "add_hover",
    "candidate_rows",
    "legend_below",
    "line_at",
    "log_range",
    "median_of",
    "new_figure",
    "plain",
]

GREY = "#747d89"  # can be read on white and on black
GOOD = "#2da44e"
BAD = "#d1483f"
OPEN = "#d19a00"
_GRID_ALPHA = 0.22


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What every plot draws from.

    Attributes:
        result: What the run found.
        looks: Candidate name to its look.
        latency, accuracy: Units.

    """

    result: RunResult
    looks: dict[str, CandidateStyle]
    latency: LatencyUnit
    accuracy: AccuracyUnit


def median_of(candidate: Candidate) -> Interval | None:
    """The interval of p50, ns; None where there is none."""
    return candidate.latency.quantile(0.5).interval_ns if candidate.latency is not None else None


def new_figure(*, height: int, tools: str = "pan,box_zoom,wheel_zoom,reset,save", **options: object) -> Figure:
    """An empty figure without a background; the page gives it one, light or dark."""
    from bokeh.plotting import figure

    plot = figure(height=height, sizing_mode="stretch_width", tools=tools, **options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.toolbar.active_scroll = None
    plot.background_fill_color = None
    plot.border_fill_color = None
    plot.outline_line_color = None
    plot.grid.grid_line_color = GREY
    plot.grid.grid_line_alpha = _GRID_ALPHA
    for axis in plot.axis:
        axis.axis_line_color = GREY
        axis.major_tick_line_color = GREY
        axis.minor_tick_line_color = None
        axis.major_label_text_color = GREY
        axis.axis_label_text_color = GREY
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
    return plot


def candidate_rows(names: Sequence[str], *, height: int, per_row: int = 24, log: bool = False) -> Figure:
    """A figure with one row per candidate, the first on top; at least so high."""
    height = max(height, 70 + per_row * len(names))
    rows = [plain(name) for name in reversed(names)]
    plot = new_figure(height=height, y_range=rows, x_axis_type="log" if log else "linear")
    plot.ygrid.grid_line_color = None
    return plot


def log_range(plot: Figure, low: float, high: float, *, most_ticks: int = 9) -> None:
    """Sets the x axis, with round ticks; Bokeh's own leave most of a decade without any."""
    plot.x_range.start, plot.x_range.end = low, high
    plot.xaxis.ticker = round_ticks(low, high, most_ticks)


def line_at(plot: Figure, dimension: str, place: float, colour: str, text: str) -> None:
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


def add_hover(plot: Figure, tips: list[tuple[str, str]], names: list[str], mode: str = "mouse") -> None:
    """Words that appear over the renderers of these names."""
    from bokeh.models import HoverTool

    plot.add_tools(HoverTool(tooltips=tips, mode=mode, renderers=[r for r in plot.renderers if r.name in names]))


def legend_below(plot: Figure) -> None:
    """Moves the legend under the figure; a name that is clicked dims its line."""
    legend = plot.legend[0]
    legend.click_policy = "mute"
    legend.background_fill_alpha = 0.0
    legend.border_line_color = None
    legend.label_text_color = GREY
    legend.label_text_font_size = "12px"
    legend.ncols = 2
    legend.location = "center"
    legend.label_width = 8 * max(len(item.label.value) for item in legend.items)
    legend.spacing = 2
    legend.margin = 0
    plot.add_layout(legend, "below")


def plain(name: str) -> str:
    """Bokeh takes text between two `$$` for TeX, and would fetch a renderer for it."""
    return str(visible(name)).replace("$", "\N{FULLWIDTH DOLLAR SIGN}").replace("\\", "\N{FULLWIDTH REVERSE SOLIDUS}")
