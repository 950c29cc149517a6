"""`edgeport prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import (
    FILE,
    given_options,
    model_source,
    options_of,
    output_option,
    resume_option,
    store_option,
    target_option,
)
from edgeport.cli.output import Output, output_options
from edgeport.errors import UsageError
from edgeport.options.prune import PruneOptions

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@click.command(name="prune")
@model_source
@click.option("--samples", "file", type=FILE, required=True, help=".npz with two samples or more, one array per input.")
@target_option("Key of the labels in the .npz.")
@options_of(
    PruneOptions,
    "what by amount latency_ns speedup schedule scope round_to least samples recalibrate fine_tune epochs "
    "epochs_between batch_size rate loss teacher seed device processes backend threads rounds",
)
@output_option("pruned.safetensors")
@store_option
@resume_option("Go on with a training that was stopped, as by default; or anew.")
@output_options
def command(
    *,
    source: ModelSource,
    file: Path,
    target: str,
    options: PruneOptions,
    place: Path,
    store: Path | None,
    fresh: bool,
    output: Output,
) -> int:
    """A PyTorch model without the channels, heads, weights or blocks that it can do without.

    Writes the weights that are left; export, verify and recipes take them as the weights of the same SOURCE. A .pt2
    file needs no code any more. With --latency or --speedup, what goes is decided by measuring on this machine.

    \b
    Examples:
      edgeport prune net:create --weights net.safetensors --samples samples.npz --amount 0.5 -o small.safetensors
      edgeport prune torchvision:resnet18 --samples samples.npz --by taylor --target label --speedup 2
      edgeport prune net:create --samples samples.npz --target label --amount 0.5 --schedule iterative:3 --epochs 5
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_prune import draw_prune

    if not options.epochs:
        _refuse_without_training()
    with output.progress() as on_progress:
        report = api.prune(
            source,
            file,
            output=place,
            options=options,
            target=target,
            store=store,
            on_progress=on_progress,
            fresh=fresh,
        )
    return output.report(report, draw_prune)


_OF_TRAINING = frozenset({"epochs_between", "batch_size", "rate", "loss", "teacher", "processes"})


def _refuse_without_training() -> None:
    """What says how to train says nothing where nobody trains.

    Raises:
        UsageError: Such an option was given.

    """
    given = [spelled for name, spelled in given_options().items() if name in _OF_TRAINING]
    if given:
        raise UsageError(
            asked=f"prune with {', '.join(given)}",
            found="no training: --epochs is 0",
            fix=f"give --epochs, or leave out {', '.join(given)}",
        )
