"""The plots of accuracy: against latency, and what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeport.contracts import Candidate, Interval
from edgeport.report.axes_layout import NARROW_PX, Frame
from edgeport.report.canvas import (
    BAD,
    GOOD,
    GREY,
    Scene,
    add_hover,
    candidate_rows,
    line_at,
    log_range,
    median_of,
    new_figure,
    plain,
)

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class that Bokeh spells small)

__all__ = ["drops", "pareto"]

_LOW = 320

# On a telephone they would cover each other; the marks are those of the table.
_FIT_LABELS = """
const end = cb_obj.inner_width < 860 ? "_narrow" : "";
labels.visible = cb_obj.inner_width > 560;
labels.x_offset = {field: "dx" + end};
labels.y_offset = {field: "dy" + end};
labels.text_align = {field: "align" + end};
"""


def pareto(scene: Scene) -> Figure | None:
    """Accuracy over median latency, with both intervals; None where no candidate has both."""
    from bokeh.models import BoxAnnotation, CustomJS, LabelSet

    points = [(c, p50) for c in scene.result.candidates if c.accuracy and (p50 := median_of(c))]
    if not points:
        return None
    plot = new_figure(height=430, x_axis_type="log")
    plot.xaxis.axis_label = f"median latency, {scene.latency.name} (log scale; left is faster)"
    plot.yaxis.axis_label = f"{scene.accuracy.metric}{scene.accuracy.sign and ', %'} (up is better)"
    limit = _accuracy_limit(scene)
    source = _pareto_source(scene, points)
    frame = Frame.around(source.data, limit, most=100.0 if scene.accuracy.sign else None)
    narrow = frame.label_offsets(source.data, NARROW_PX)
    source.data.update(frame.label_offsets(source.data))
    source.data.update({f"{name}_narrow": values for name, values in narrow.items()})
    plot.y_range.start, plot.y_range.end = frame.bottom, frame.top
    log_range(plot, frame.left, frame.right)
    if limit is not None:
        plot.add_layout(BoxAnnotation(top=limit, fill_color=BAD, fill_alpha=0.07, line_color=None))
        line_at(plot, "width", limit, BAD, "out of the accuracy budget")
    _frontier(scene, plot, points, frame.right)
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
    plot.js_on_change("inner_width", CustomJS(args={"labels": labels}, code=_FIT_LABELS))
    add_hover(plot, [("", "@label"), ("p50", "@p50"), (scene.accuracy.metric, "@accuracy")], names=["points"])
    return plot


def _pareto_source(scene: Scene, points: Sequence[tuple[Candidate, Interval]]):  # type: ignore[no-untyped-def] # noqa: ANN202
    from bokeh.models import ColumnDataSource

    scale, ns = scene.accuracy.scale, scene.latency.ns
    data: dict[str, list[object]] = {}
    for candidate, p50 in points:
        look, accuracy = scene.looks[candidate.name], candidate.accuracy
        if accuracy is None:
            continue
        chosen = candidate.name == scene.result.chosen
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
            "ring": GOOD if chosen else look.colour,
            "ring_width": 4 if chosen else 1,
            "label": plain(candidate.name) + (" (ships)" if chosen else ""),
            "p50": f"{scene.latency.text(p50.estimate)} ({scene.latency.span(p50)})",
            "accuracy": f"{scene.accuracy.text(accuracy.value.estimate)} ({scene.accuracy.span(accuracy.value)})",
        }
        for key, value in row.items():
            data.setdefault(key, []).append(value)
    return ColumnDataSource(data)


def _accuracy_limit(scene: Scene) -> float | None:
    """The accuracy at which the budget is used up, as shown; None without a reference."""
    for candidate in scene.result.candidates:
        if candidate.accuracy is not None:
            reference = candidate.accuracy.value.estimate + candidate.accuracy.drop.estimate
            return (reference - scene.result.budget.accuracy_drop) * scene.accuracy.scale
    return None


def _frontier(scene: Scene, plot: Figure, points: Sequence[tuple[Candidate, Interval]], right: float) -> None:
    """A step line through the candidates that no other beats in both."""
    best, xs, ys = -np.inf, [], []
    for candidate, p50 in sorted(points, key=lambda point: point[1].estimate):
        value = candidate.accuracy.value.estimate if candidate.accuracy else -np.inf
        if value > best:
            best = value
            xs.append(p50.estimate / scene.latency.ns)
            ys.append(value * scene.accuracy.scale)
    # To the frame's edge: whatever is slower than the best must be beaten by it too.
    xs.append(right)
    ys.append(ys[-1])
    plot.step(xs, ys, mode="after", color=GREY, line_dash="dashed", line_width=1.5, alpha=0.8)


def drops(scene: Scene) -> Figure | None:
    """Accuracy lost against the reference, with its interval, and the budget; None where none was judged."""
    judged = [c for c in scene.result.candidates if c.accuracy]
    if not judged:
        return None
    plot = candidate_rows([c.name for c in judged], height=_LOW)
    plot.xaxis.axis_label = f"{scene.accuracy.metric} lost, {scene.accuracy.difference} (left is better)"
    scale, names = scene.accuracy.scale, [plain(c.name) for c in judged]
    drops, seen = [c.accuracy.drop for c in judged if c.accuracy], [scene.looks[c.name] for c in judged]
    colours = [look.colour for look in seen]
    lows, highs = [scale * drop.low for drop in drops], [scale * drop.high for drop in drops]
    plot.segment(lows, names, highs, names, color=colours, line_width=3)
    middles = [scale * drop.estimate for drop in drops]
    plot.scatter(middles, names, marker=[look.marker for look in seen], size=11, color=colours)
    budget = scene.result.budget.accuracy_drop * scale
    low, high = min([*lows, 0.0]), max([*highs, budget])
    room = 0.08 * max(high - low, 1e-9)
    plot.x_range.start, plot.x_range.end = low - room, high + 2 * room
    line_at(plot, "height", 0.0, GREY, "")
    line_at(plot, "height", budget, BAD, "budget")
    return plot
