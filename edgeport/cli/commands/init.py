"""`edgeport init`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from edgeport.cli.options import options_of, output_option
from edgeport.cli.output import Output, output_options
from edgeport.options.declare import option
from edgeport.options.init import InitOptions

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _Options(InitOptions):
    """With what only the command line has."""

    yes: bool = option(default=False, text="Ask nothing.")


@click.command(name="init")
@click.argument("model")
@output_option("edgeport.toml")
@options_of(
    _Options,
    "samples calibration evaluation target metric inputs backends weights arguments allow_pickle_sha256 accuracy_drop "
    "latency quick yes force",
)
@output_options
def command(*, model: str, place: Path, options: _Options, output: Output) -> int:
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
    from edgeport.cli.render_steps import draw_draft

    if not options.yes and not output.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        options = _with_answers(options)
    with output.progress() as on_progress:
        draft = api.init(model, recipe=place, options=options, on_progress=on_progress)
    return output.report(draft, draw_draft)


def _with_answers(options: _Options) -> _Options:
    """What a terminal is asked that no flag said; an empty answer leaves it to be found."""
    answers: dict[str, Any] = {}
    if not options.samples and not options.evaluation:
        answers["samples"] = click.prompt(
            "Samples (.npz, .csv, a folder; empty for random ones)", default="", show_default=False
        )
    if not options.latency:
        answers["latency"] = click.prompt(
            'Latency budget ("p50 <= 5 ms"; empty for none)', default="", show_default=False
        )
    return replace(options, **{name: answer.strip() for name, answer in answers.items()})
