"""`edgeport verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import FILE, model_source, raw_samples
from edgeport.cli.output import Output, exit_code, output_options

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@click.command(name="verify")
@model_source
@click.argument("model", type=FILE)
@click.option("--samples", type=FILE, required=True, help=".npz, one array per input.")
@click.option("--metric", default="", help="Compute this metric of both, too; it needs --target.")
@click.option("--target", default="", help="Key of the labels in the .npz.")
@click.option("--tolerance", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@raw_samples
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    source: ModelSource,
    model: Path,
    samples: Path,
    metric: str,
    target: str,
    tolerance: float,
    preprocess: Path | None,
    output: Output,
) -> int:
    """PyTorch (SOURCE) against the exported MODEL, on samples: errors, SQNR, and the metric.

    The tolerance is relative to the largest output. Ends with 0 where they agree, else with 3.

    \b
    Example:
      edgeport verify net:create net.onnx --weights net.safetensors --samples samples.npz
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_steps import draw_verification
    from edgeport.contracts import to_jsonable

    found = api.verify(source, model, samples, metric=metric, target=target, tolerance=tolerance, preprocess=preprocess)
    output.show(lambda: to_jsonable(found), lambda console: draw_verification(console, found))
    return exit_code(found.outcome)
