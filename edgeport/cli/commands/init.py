"""`edgeport init`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgeport.cli.options import FILE, PLACE, argument
from edgeport.cli.output import Output, output_options

__all__ = ["command"]


@click.command(name="init")
@click.argument("model")
@click.option("-o", "--output", "recipe", type=PLACE, default=Path("edgeport.toml"), show_default=True)
@click.option(
    "--samples",
    default="",
    help=".npz, .npy, .csv or folder of images or .wav files, split for calibration and evaluation.",
)
@click.option("--calibration", default="", help="Instead: samples that int8 ranges come from.")
@click.option("--evaluation", default="", help="Instead: other samples, that candidates are judged on.")
@click.option("--target", default="", help="Key or column of the labels [default: found].")
@click.option("--metric", default="", help="As in a recipe [default: top1 with labels, else against the float model].")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=SHAPE", help="image=batch,3,224,224 or ids=batch,16:int64."
)
@click.option("--backend", "backends", multiple=True, help="A runtime, once for each [default: all that run here].")
@click.option("--weights", type=FILE, help=".safetensors, or a checkpoint that loads without running code.")
@click.option("--argument", "arguments", multiple=True, metavar="NAME=JSON", help="Argument of the factory.")
@click.option("--allow-pickle-sha256", "allowed", help="Digest of the ultralytics .pt that may run code.")
@click.option("--accuracy-drop", type=float, help="Largest loss against the float model [default: what can be proved].")
@click.option("--latency", default="", help='Of the budget: "p50 <= 5 ms".')
@click.option("--quick", is_flag=True, help="Few and short measurements, for a first look.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@output_options
def command(*, model: str, arguments: tuple[str, ...], yes: bool, output: Output, **asked: Any) -> int:
    """Writes a recipe for MODEL, which runs at once.

    MODEL is a factory (net:create, or net.py:create), a .pt2 or .onnx file, torchvision:NAME, timm:NAME, hf:FOLDER,
    hf:NAME or ultralytics:FILE. It is loaded, run and exported in a child process. Inputs, free axes, metric and
    runtimes are found where you do not name them. Without samples, random ones are written beside the recipe.

    \b
    Examples:
      edgeport init net.onnx
      edgeport init net:create --samples samples.npz --target label
      edgeport init torchvision:resnet18 --samples photos/
      edgeport init timm:resnet18 --backend onnxruntime --quick -o resnet18.toml
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    asked["allow_pickle_sha256"] = asked.pop("allowed")
    if not yes and not output.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        asked |= _answers(asked)
    values = dict(argument(text) for text in arguments)
    with output.progress() as on_progress:
        draft = api.init(model, arguments=values, on_progress=on_progress, **asked)
    from edgeport.cli.render_steps import draw_draft
    from edgeport.contracts import to_jsonable

    output.show(lambda: to_jsonable(draft), lambda console: draw_draft(console, draft))
    return 0


def _answers(asked: dict[str, Any]) -> dict[str, Any]:
    """What a terminal is asked that no flag said; an empty answer leaves it to be found."""
    answers: dict[str, Any] = {}
    if not asked["samples"] and not asked["evaluation"]:
        answers["samples"] = click.prompt(
            "Samples (.npz, .csv, a folder; empty for random ones)", default="", show_default=False
        )
    if not asked["latency"]:
        answers["latency"] = click.prompt(
            'Latency budget ("p50 <= 5 ms"; empty for none)', default="", show_default=False
        )
    return {name: answer.strip() for name, answer in answers.items()}
