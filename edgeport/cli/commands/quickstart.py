"""`edgeport quickstart`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import output_option, store_option
from edgeport.cli.output import Output, output_options
from edgeport.cli.result import show_run

__all__ = ["command"]


@click.command(name="quickstart")
@output_option("edgeport-quickstart")
@store_option
@output_options
def command(*, place: Path, store: Path | None, output: Output) -> int:
    """A first run, in under 3 minutes, on a model and data that come with packages.

    Trains a small network on scikit-learn's handwritten digits, then walks the whole way: export, verify, calibrate,
    compile, validate, choose, bundle, report.

    \b
    Example:
      edgeport quickstart --output my-first-run
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    with output.progress() as on_progress:
        result = api.quickstart(place, store=store, on_progress=on_progress)
    return show_run(output, result)
