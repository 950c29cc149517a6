"""`edgeport calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeport.cli.options import FILE, PLACE, raw_samples, samples_place
from edgeport.cli.output import Output, output_options

__all__ = ["command"]


@click.command(name="calibrate")
@click.argument("model", type=FILE)
@click.argument("samples")
@click.option("-o", "--output", "file", type=PLACE, default=Path("calibration.safetensors"), show_default=True)
@click.option(
    "--observers", default="extremes,histogram,averages", show_default=True, help="What is watched, with commas."
)
@click.option("--target", default="", help="Key in the .npz that is no input, but the labels.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option(
    "--recover", multiple=True, metavar="METHOD", help="Prepare the model for integers: equalization, smoothing."
)
@raw_samples
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    model: Path,
    samples: str,
    file: Path,
    observers: str,
    target: str,
    batch_size: int,
    preprocess: Path | None,
    workers: int,
    recover: tuple[str, ...],
    output: Output,
) -> int:
    """Statistics of every activation of MODEL (.onnx) over SAMPLES (.npz or pkg.mod:fn).

    They are neutral: calibrate once, quantize for every target. With --recover they are of another model, which is
    written beside them (NAME.recovered.onnx): quantize that one.

    \b
    Example:
      edgeport calibrate net.onnx samples.npz -o net.calibration.safetensors
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    names = tuple(name.strip() for name in observers.split(",") if name.strip())
    with output.progress() as on_progress:
        found = api.calibrate(
            model,
            samples_place(samples),
            output=file,
            observers=names,
            batch_size=batch_size,
            target=target,
            preprocess=preprocess,
            workers=workers,
            recover=recover,
            on_progress=on_progress,
        )
    from edgeport.cli.render_steps import draw_calibration

    def values() -> dict[str, Any]:
        return {
            "path": str(file),
            "digest": found.digest,
            "model_digest": found.model_digest,
            "transforms": list(found.transforms),
            "samples_fingerprint": found.samples_fingerprint,
            "sample_count": found.sample_count,
            "tensors": len(found.statistics),
        }

    output.show(values, lambda console: draw_calibration(console, found, file))
    return 0
