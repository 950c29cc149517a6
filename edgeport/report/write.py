"""Renders a result into one HTML file that needs nothing else, no network either."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from edgeport.contracts import RunResult
from edgeport.errors import DependencyError, OutputError
from edgeport.report.figures import AccuracyUnit, LatencyUnit, bytes_text, seconds_text
from edgeport.report.look import looks
from edgeport.report.rows import placements, rows
from edgeport.report.verdict import headline

__all__ = ["write_report"]

_HERE = Path(__file__).parent


def write_report(result: RunResult, path: Path) -> Path:
    """Writes the report of a run.

    Args:
        result: What the run found.
        path: The file; an older report there is replaced in one step, a link is not followed.

    Returns:
        `path`.

    Raises:
        DependencyError: Bokeh or jinja2 is not installed.
        OutputError: `path` is a link or a folder, or can't be written.

    """
    if path.is_symlink() or path.is_dir():
        found = "a link" if path.is_symlink() else "a folder"
        raise OutputError(asked=f"write the report {path}", found=f"{found} of that name", fix="name another file")
    text = render(result)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            asked=f"write the report {path}", found=str(error), fix="name a file that can be written"
        ) from error
    return path


def render(result: RunResult) -> str:
    """The report's HTML.

    Raises:
        DependencyError: Bokeh or jinja2 is not installed.

    """
    try:
        from bokeh.resources import Resources
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise DependencyError(
            asked="write a report",
            found=f"no {error.name or 'package'} ({error})",
            fix='install it: pip install "edgeport[report]"',
            details={"extra": "report", "module": error.name},
        ) from error
    latency, accuracy = _units(result)
    seen = looks(result.candidates)
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(size=bytes_text, seconds=seconds_text)
    script, places = _embed(result, latency, accuracy)
    return environment.get_template("report.html").render(
        result=result,
        headline=headline(result, latency, accuracy),
        rows=rows(result, seen, latency, accuracy),
        placements=placements(result, seen),
        latency=latency,
        accuracy=accuracy,
        places=places,
        infinity=float("inf"),
        # Ours and Bokeh's: what comes from a model is escaped inside of it.
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        bokeh=Markup(Resources(mode="inline", components=["bokeh"]).render()),  # noqa: S704
        script=Markup(script),  # noqa: S704
    )


def _embed(result: RunResult, latency: LatencyUnit, accuracy: AccuracyUnit) -> tuple[str, dict[str, Any]]:
    """Bokeh's script, and per plot the element that it draws into."""
    from bokeh.embed import components
    from markupsafe import Markup

    from edgeport.report.plots import Plots

    plots = Plots(result=result, looks=looks(result.candidates), latency=latency, accuracy=accuracy)
    found = {
        "pareto": plots.pareto(),
        "drops": plots.drops(),
        "processes": plots.processes(),
        "calls": plots.calls(),
        "pairs": plots.pairs(),
    }
    over_time = plots.over_time()
    places: dict[str, Any] = dict.fromkeys(found, "")
    drawn = {name: plot for name, plot in found.items() if plot is not None}
    drawn |= {f"time-{index}": plot for index, (_, plot) in enumerate(over_time)}
    script, elements = components(drawn) if drawn else ("", {})
    places |= {name: Markup(element) for name, element in elements.items()}  # noqa: S704 (Bokeh's)
    places["time"] = [(name, places[f"time-{index}"]) for index, (name, _) in enumerate(over_time)]
    return script, places


def _units(result: RunResult) -> tuple[LatencyUnit, AccuracyUnit]:
    medians = [
        quantile.interval_ns.estimate
        for candidate in result.candidates
        if candidate.latency and (quantile := candidate.latency.quantile(0.5)).interval_ns
    ]
    metrics = [candidate.accuracy.metric for candidate in result.candidates if candidate.accuracy]
    return LatencyUnit.fitting(min(medians, default=1e6)), AccuracyUnit(metric=metrics[0] if metrics else "accuracy")
