"""`edgeport verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import FILE, model_source, options_of
from edgeport.cli.output import Output, output_options
from edgeport.options.export import VerifyOptions

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@click.command(name="verify")
@model_source
@click.argument("model", type=FILE)
@click.option("--samples", type=FILE, required=True, help=".npz, one array per input.")
@options_of(VerifyOptions, "metric target tolerance preprocess")
@output_options
def command(
    *,
    source: ModelSource,
    model: Path,
    samples: Path,
    options: VerifyOptions,
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

    return output.report(api.verify(source, model, samples, options=options), draw_verification)
