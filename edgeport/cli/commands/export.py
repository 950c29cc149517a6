"""`edgeport export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import FILE, model_source, options_of, output_option, target_option
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError
from edgeport.options.export import ExportSettings

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@click.command(name="export")
@model_source
@click.option("--example", type=FILE, help=".npz with two samples or more, one array per input.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=SHAPE", help="Instead: image=2,3,224,224.")
@target_option("Key of the labels in the .npz, which are no input.")
@output_option("model.onnx")
@options_of(ExportSettings)
@output_options
def command(
    *,
    source: ModelSource,
    example: Path | None,
    inputs: tuple[str, ...],
    target: str,
    place: Path,
    options: ExportSettings,
    output: Output,
) -> int:
    """A PyTorch model to ONNX, with a free batch axis that is checked.

    SOURCE is pkg.mod:factory (beside the current folder, or installed), a .pt2 file, torchvision:NAME, timm:NAME,
    hf:FOLDER (of transformers; hf:NAME from the local cache), or ultralytics:FILE.

    \b
    Examples:
      edgeport export net:create --weights net.safetensors --example samples.npz -o net.onnx
      edgeport export torchvision:resnet18 --input input=2,3,224,224
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_steps import draw_export

    if example is None and not inputs:
        raise UsageError(
            asked=f"export {source.location}",
            found="neither --example nor --input",
            fix="give samples (--example samples.npz) or shapes (--input image=2,3,224,224)",
        )
    shapes = dict(_shape(text) for text in inputs) or None
    with output.progress() as on_progress:
        report = api.export(
            source,
            example=example,
            input_shapes=shapes,
            target=target,
            output=place,
            options=options,
            on_progress=on_progress,
        )
    return output.report(report, draw_export)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    match = re.fullmatch(r"([^=]+)=([1-9]\d*(?:[,x][1-9]\d*)*)", text)
    if match is None:
        raise UsageError(
            asked=f"take --input {text}", found="no NAME=SHAPE", fix="write it as in --input image=2,3,224,224"
        )
    return match[1], tuple(int(size) for size in re.split("[,x]", match[2]))
