"""`edgeport imitate`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FILE, options_of, output_option, resume_option, store_option
from edgeport.cli.output import Output, output_options
from edgeport.options.imitate import ImitateOptions

__all__ = ["command"]


@click.command(name="imitate")
@click.argument("samples", type=FILE)
@options_of(ImitateOptions, "count inputs value_range epochs batch_size latent width rate seed device")
@output_option("drawn.npz")
@store_option
@resume_option("Go on with a training that was stopped, as by default; or anew.")
@output_options
def command(
    *, samples: Path, options: ImitateOptions, place: Path, store: Path | None, fresh: bool, output: Output
) -> int:
    """Draws samples that look like those in SAMPLES (.npz), for those who must not see the data.

    They can be distilled from and calibrated with; the file says that they were made. How much they tell of the data is
    not bounded.

    \b
    Examples:
      edgeport imitate samples.npz --count 10000 -o drawn.npz
      edgeport imitate samples.npz --input image --range 0:1 --latent 128
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_imitate import draw_imitate

    with output.progress() as on_progress:
        report = api.imitate(samples, output=place, options=options, store=store, on_progress=on_progress, fresh=fresh)
    return output.report(report, draw_imitate)
