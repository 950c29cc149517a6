"""Renders a result into one HTML file that needs nothing else, no network either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeport.atomic import atomic_write
from edgeport.contracts import RunResult
from edgeport.devices.agent.probing import missing_sources
from edgeport.errors import DependencyError, OutputError
from edgeport.report.budget import limits
from edgeport.report.canvas import Scene
from edgeport.report.compression import step_rows
from edgeport.report.confirmation import AGAIN, hardest_float, measured_again
from edgeport.report.figures import bytes_text, duration_text, seconds_text
from edgeport.report.latency_rows import energies, quantile_names, rooflines, times
from edgeport.report.rows import ABSENT, placements, rows
from edgeport.report.sanitize import visible
from edgeport.report.searches import search_tables
from edgeport.report.style import looks
from edgeport.report.summary import summary_headline, summary_rows
from edgeport.report.units import units
from edgeport.report.verdict import headline

__all__ = ["write_report"]

_HERE = Path(__file__).parent


def write_report(result: RunResult, path: Path, *, summary: str = "") -> Path:
    """Writes the report of a run.

    Args:
        result: What the run found.
        path: The file; an older report there is replaced in one step, a link is not followed.
        summary: Link to the page of all targets, relative to `path`; empty for none.

    Returns:
        `path`.

    Raises:
        DependencyError: Bokeh or jinja2 is not installed.
        OutputError: `path` is a link or a folder, or can't be written.

    """
    if path.is_symlink() or path.is_dir():
        found = "a link" if path.is_symlink() else "a folder"
        raise OutputError(asked=f"write the report {path}", found=f"{found} of that name", fix="name another file")
    text = render(result, summary=summary)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
    except OSError as error:
        raise OutputError(
            asked=f"write the report {path}", found=str(error), fix="name a file that can be written"
        ) from error
    return path


def render(result: RunResult, *, summary: str = "") -> str:
    """The report's HTML: of one bundle, linked to `summary` where that is given, or the page that lists the targets.

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
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=bytes_text, seconds=seconds_text, duration=duration_text, missing=missing_sources)
    # Ours and Bokeh's: what comes from a model is escaped inside of it.
    style = Markup((_HERE / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    common = {"result": result, "style": style, "absent": ABSENT, "infinity": float("inf")}
    if result.targets:
        devices = list({one.device.name: one.device for one in result.targets}.values())
        return environment.get_template("summary.html").render(
            **common,
            headline=summary_headline(result),
            rows=summary_rows(result),
            devices=devices,
            several=len(devices) > 1,
        )
    latency, accuracy = units(result)
    seen = looks(result.candidates)
    script, places = _embed(Scene(result=result, looks=seen, latency=latency, accuracy=accuracy))
    return environment.get_template("report.html").render(
        **common,
        summary=summary,
        headline=headline(result, latency, accuracy),
        rows=rows(result, seen, latency, accuracy),
        placements=placements(result, seen),
        searches=search_tables(result),
        steps=step_rows(result, latency, accuracy),
        hardest=hardest_float(result),
        again=measured_again(result, latency.text),
        again_mark=AGAIN,
        times=times(result, seen, latency),
        quantile_names=quantile_names(result),
        rooflines=rooflines(result, seen, latency),
        energies=energies(result, seen),
        latency=latency,
        accuracy=accuracy,
        limits=limits(result.budget, accuracy),
        places=places,
        contents=_contents(result, places),
        bokeh=Markup(Resources(mode="inline", components=["bokeh"]).render()),  # noqa: S704
        script=Markup(script),  # noqa: S704
    )


def _embed(scene: Scene) -> tuple[str, dict[str, Any]]:
    """Bokeh's script, and per plot the element that it draws into."""
    from bokeh.document import Document
    from bokeh.embed import components
    from markupsafe import Markup

    from edgeport.report import accuracy_plots, latency_plots, roofline_plot, time_plots

    found = {
        "pareto": accuracy_plots.pareto(scene),
        "drops": accuracy_plots.drops(scene),
        "quantiles": latency_plots.quantiles(scene),
        "processes": latency_plots.processes(scene),
        "calls": latency_plots.calls(scene),
        "pairs": latency_plots.pairs(scene),
        "roofline": roofline_plot.roofline(scene),
    }
    blocks = time_plots.time_blocks(scene)
    places: dict[str, Any] = dict.fromkeys(found, "")
    drawn: dict[str, Any] = {name: plot for name, plot in found.items() if plot is not None}
    drawn |= {f"time-{index}": block.plot.figure for index, block in enumerate(blocks)}
    # In one document, put together at once: Bokeh would go through all models again for each plot.
    document = Document()
    with document.models.freeze():
        for plot in drawn.values():
            document.add_root(plot)
    script, elements = components(drawn) if drawn else ("", {})
    places |= {name: Markup(element) for name, element in elements.items()}  # noqa: S704 (Bokeh's)
    timed = [(block, places[f"time-{index}"]) for index, block in enumerate(blocks)]
    measured = len(scene.result.measurements) + len(scene.result.confirmation)
    places["time_hidden"] = measured > time_plots.MOST_BLOCKS
    places["time"] = [pair for pair in timed if not pair[0].folded]
    places["folded"] = [pair for pair in timed if pair[0].folded]
    return script, places


def _contents(result: RunResult, places: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Anchor and title of every section that there is."""
    timed = any(candidate.latency is not None for candidate in result.candidates)
    sections = (
        ("steps", "Step by step", bool(result.compression)),
        ("candidates", "Candidates", True),
        ("tradeoff", "Accuracy against latency", places["pareto"]),
        ("accuracy", "Accuracy lost", places["drops"]),
        ("latency", "Latency and loading", timed),
        ("time", "Call after call", places["time"] or places["folded"]),
        ("roofline", "Roofline", timed),
        ("energy", "Energy", timed),
        ("placement", "What really ran", any(candidate.placement is not None for candidate in result.candidates)),
        ("searches", "Nodes kept in float", result.searches),
        ("run", "Budget, device, run", True),
    )
    return [(anchor, title) for anchor, title, there in sections if there]
