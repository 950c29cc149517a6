"""`edgeport calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeport.cli.options import FILE, options_of, output_option
from edgeport.cli.output import Output, output_options
from edgeport.cli.parsing import parse_samples
from edgeport.options.quantize import CalibrateOptions

__all__ = ["command"]


@click.command(name="calibrate")
@click.argument("model", type=FILE)
@click.argument("samples")
@output_option("calibration.safetensors")
@options_of(CalibrateOptions, "observers target batch_size workers recover preprocess")
@output_options
def command(*, model: Path, samples: str, place: Path, options: CalibrateOptions, output: Output) -> int:
    """Statistics of every activation of MODEL (.onnx) over SAMPLES (.npz or pkg.mod:fn).

    They are neutral: calibrate once, quantize for every target. With --recover they are of another model, which is
    written beside them (NAME.recovered.onnx): quantize that one.

    \b
    Example:
      edgeport calibrate net.onnx samples.npz -o net.calibration.safetensors
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    with output.progress() as on_progress:
        found = api.calibrate(model, parse_samples(samples), output=place, options=options, on_progress=on_progress)
    from edgeport.cli.render_steps import draw_calibration

    def values() -> dict[str, Any]:
        return {
            "path": str(place),
            "digest": found.digest,
            "model_digest": found.model_digest,
            "transforms": list(found.transforms),
            "samples_fingerprint": found.samples_fingerprint,
            "sample_count": found.sample_count,
            "tensors": len(found.statistics),
        }

    output.show(values, lambda console: draw_calibration(console, found, place))
    return 0
