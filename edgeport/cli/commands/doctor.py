"""`edgeport doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import store_option
from edgeport.cli.output import Output, output_options

__all__ = ["command"]


@click.command(name="doctor")
@store_option
@output_options
def command(*, store: Path | None, output: Output) -> int:
    """What is installed and usable here, what is missing, and how to get it.

    Ends with 0 where models can be run on this machine, else with 1.

    \b
    Example:
      edgeport doctor
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport.cli.render_steps import draw_diagnosis
    from edgeport.contracts import ProgressEvent, to_jsonable
    from edgeport.doctor import diagnose

    with output.progress() as on_progress:
        on_progress(ProgressEvent(stage="look", message="each runtime in a process of its own"))
        diagnosis = diagnose(store=store)
    output.show(lambda: to_jsonable(diagnosis), lambda console: draw_diagnosis(console, diagnosis))
    return 0 if any(backend.can_run for backend in diagnosis.backends) else 1
