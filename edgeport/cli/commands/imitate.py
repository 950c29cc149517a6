"""`edgeport imitate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeport.cli.options import FILE, PLACE, store_option
from edgeport.cli.output import Output, output_options
from edgeport.cli.ranges import value_range

__all__ = ["command"]


@click.command(name="imitate")
@click.argument("samples", type=FILE)
@click.option("--count", type=click.IntRange(min=1), default=5000, show_default=True, help="Samples to draw.")
@click.option("--input", "inputs", default="", metavar="NAME", help="The array [default: the only one of float32].")
@click.option("--range", "between", default="", metavar="LOW:HIGH", help="Of its values [default: as in the samples].")
@click.option("--epochs", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--latent", type=click.IntRange(min=1), default=64, show_default=True, help="Numbers of a code.")
@click.option("--width", type=click.IntRange(min=1), default=32, show_default=True, help="Channels of the networks.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("-o", "--output", "file", type=PLACE, default=Path("drawn.npz"), show_default=True)
@store_option
@click.option("--resume/--fresh", default=True, help="Go on with a training that was stopped, as by default; or anew.")
@output_options
def command(
    *,
    samples: Path,
    between: str,
    file: Path,
    resume: bool,
    output: Output,
    **options: Any,
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
    from edgeport.contracts import to_jsonable

    with output.progress() as on_progress:
        report = api.imitate(
            samples,
            output=file,
            value_range=value_range(between),
            on_progress=on_progress,
            fresh=not resume,
            **options,
        )
    output.show(lambda: to_jsonable(report), lambda console: draw_imitate(console, report))
    return 0
