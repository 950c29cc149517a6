"""`edgeport export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import FILE, PLACE, model_source
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@click.command(name="export")
@model_source
@click.option("--example", type=FILE, help=".npz with two samples or more, one array per input.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=SHAPE", help="Instead: image=2,3,224,224.")
@click.option("--target", default="", help="Key of the labels in the .npz, which are no input.")
@click.option("-o", "--output", "model", type=PLACE, default=Path("model.onnx"), show_default=True)
@click.option("--opset", type=click.IntRange(18, 23), default=20, show_default=True)
@click.option("--fixed-batch", is_flag=True, help="Keep the example's batch size; else it is free.")
@click.option("--allow-legacy-exporter", is_flag=True, help="Try TorchScript where torch.export fails.")
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    source: ModelSource,
    example: Path | None,
    inputs: tuple[str, ...],
    target: str,
    model: Path,
    opset: int,
    fixed_batch: bool,
    allow_legacy_exporter: bool,
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

    if example is None and not inputs:
        raise UsageError(
            asked=f"export {source.location}",
            found="neither --example nor --input",
            fix="give samples (--example samples.npz) or shapes (--input image=2,3,224,224)",
        )
    shapes = dict(_shape(text) for text in inputs) or None
    options = {"opset": opset, "dynamic_batch": not fixed_batch, "allow_legacy_exporter": allow_legacy_exporter}
    with output.progress() as on_progress:
        report = api.export(
            source,
            example=example,
            input_shapes=shapes,
            target=target,
            output=model,
            options=options,
            on_progress=on_progress,
        )
    from edgeport.cli.render_steps import draw_export
    from edgeport.contracts import to_jsonable

    output.show(lambda: to_jsonable(report), lambda console: draw_export(console, report))
    return 0


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    match = re.fullmatch(r"([^=]+)=([1-9]\d*(?:[,x][1-9]\d*)*)", text)
    if match is None:
        raise UsageError(
            asked=f"take --input {text}", found="no NAME=SHAPE", fix="write it as in --input image=2,3,224,224"
        )
    return match[1], tuple(int(size) for size in re.split("[,x]", match[2]))
