"""How near each candidate comes to the best that the device can do (Williams, Waterman and Patterson 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeport.contracts import Candidate, Roof, Roofline
from edgeport.report.canvas import GREY, Scene, add_hover, legend_below, log_range, new_figure, plain
from edgeport.report.figures import rate_text

if TYPE_CHECKING:
    from bokeh.models import CustomJSTickFormatter
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class that Bokeh spells small)

__all__ = ["roofline"]

_TALL = 430
_Point = tuple[Candidate, Roofline]


def roofline(scene: Scene) -> Figure | None:
    """Operations a second over operations per byte, both logarithmic; None where no candidate has a place.

    Each roof has two lines: what memory allows (rising) and what arithmetic allows (level).
    """
    points = [(c, found) for c in scene.result.candidates if (found := _placed(c)) is not None]
    if not points:
        return None
    roofs = _distinct(points)
    intensities = [_intensity(found) for _, found in points]
    ridges = [roof.operations_per_s / roof.bytes_per_s for roof, _ in roofs]
    left, right = min([*intensities, *ridges]) / 4, max([*intensities, *ridges]) * 8
    plot = new_figure(height=_TALL, x_axis_type="log", y_axis_type="log")
    plot.xaxis.axis_label = "operations per byte (log scale)"
    plot.yaxis.axis_label = "operations a second (log scale)"
    for roof, owners in roofs:
        _draw_roof(scene, plot, roof, owners, (left, right))
    for candidate, found in points:
        look, own = scene.looks[candidate.name], candidate.name == scene.result.chosen
        x, y = _intensity(found), _speed(found)
        plot.segment(x, y, x, y / found.share, color=look.colour, line_dash="dotted", line_width=1.5, alpha=0.8)
        words = {
            "x": [x], "y": [y], "name": [plain(candidate.name)], "speed": [rate_text(y, "op")],
            "share": [f"{100 * found.share:.3g} % of the roof"],
        }  # fmt: skip
        mark = {"marker": look.marker, "size": 15 if own else 11, "color": look.colour}
        plot.scatter("x", "y", source=words, name="points", legend_label=plain(candidate.name), **mark)
    log_range(plot, left, right)
    lows = [_speed(found) for _, found in points]
    plot.y_range.start = min(lows) / 4
    plot.y_range.end = max([*lows, *(roof.operations_per_s for roof, _ in roofs)]) * 3
    plot.yaxis.formatter = _rates()
    add_hover(plot, [("", "@name"), ("reached", "@speed"), ("", "@share")], names=["points"])
    legend_below(plot)
    return plot


def _placed(candidate: Candidate) -> Roofline | None:
    """Its place; None where it has none, or one that a logarithmic axis does not have."""
    found = candidate.latency.roofline if candidate.latency is not None else None
    if found is None or min(found.work.operations, found.work.bytes, found.share) <= 0:
        return None
    return found


def _intensity(found: Roofline) -> float:
    return found.work.operations / found.work.bytes


def _speed(found: Roofline) -> float:
    """Operations a second that were reached: the median is `least_ns / share`."""
    return found.work.operations * found.share / found.least_ns * 1e9


def _distinct(points: Sequence[_Point]) -> list[tuple[Roof, list[Candidate]]]:
    """Roofs that differ by more than 3 %, each with the candidates under it."""
    groups: list[tuple[Roof, list[Candidate]]] = []
    for candidate, found in points:
        same = next((owners for roof, owners in groups if _alike(roof, found.roof)), None)
        if same is None:
            groups.append((found.roof, [candidate]))
        else:
            same.append(candidate)
    return groups


def _alike(a: Roof, b: Roof) -> bool:
    pairs = ((a.operations_per_s, b.operations_per_s), (a.bytes_per_s, b.bytes_per_s))
    return all(abs(x - y) <= 0.03 * max(x, y) for x, y in pairs)


def _draw_roof(scene: Scene, plot: Figure, roof: Roof, owners: Sequence[Candidate], ends: tuple[float, float]) -> None:
    from bokeh.models import Label

    left, right = ends
    ridge = roof.operations_per_s / roof.bytes_per_s
    colour = scene.looks[owners[0].name].colour if len(owners) == 1 else GREY
    xs, ys = [left, ridge, right], [left * roof.bytes_per_s, roof.operations_per_s, roof.operations_per_s]
    plot.line(xs, ys, color=colour, line_width=2, alpha=0.75)
    kinds = ", ".join(dict.fromkeys(one.precision.value for one in owners))
    text = f"{rate_text(roof.operations_per_s, 'op')}, {rate_text(roof.bytes_per_s, 'B')} ({kinds})"
    style = {"text_color": colour, "text_font_size": "11px", "text_align": "right"}
    plot.add_layout(Label(x=right, y=roof.operations_per_s, x_offset=-6, y_offset=3, text=text, **style))


def _rates() -> CustomJSTickFormatter:
    from bokeh.models import CustomJSTickFormatter

    return CustomJSTickFormatter(
        code="""
        const found = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => tick >= size);
        return found ? `${+(tick / found[0]).toPrecision(3)} ${found[1]}op/s` : `${tick} op/s`;
        """
    )
