"""`edgeport prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeport.cli.options import FILE, PLACE, given_options, model_source, store_option
from edgeport.cli.output import Output, exit_code, output_options
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.contracts import FineTuning, ModelSource

__all__ = ["command"]

_WHAT = ("units", "channels", "neurons", "heads", "weights", "2:4", "4:8", "blocks")
"""Those of `edgeport.contracts.PRUNED`, which is not loaded for a help text."""


@click.command(name="prune")
@model_source
@click.option("--samples", type=FILE, required=True, help=".npz with two samples or more, one array per input.")
@click.option("--target", default="", help="Key of the labels in the .npz.")
@click.option("--what", type=click.Choice(_WHAT), default="units", show_default=True)
@click.option(
    "--by",
    default="l2",
    show_default=True,
    metavar="CRITERION",
    help="l1, l2, near-zero, batchnorm-scale, zero-activations, entropy, taylor, fisher, hessian, random.",
)
@click.option("--amount", type=float, help="Share of multiplications or weights that goes, or how many blocks.")
@click.option("--latency", default="", metavar="5ms", help="Instead: the median to reach on this machine.")
@click.option("--speedup", type=float, help="Instead: how many times as fast.")
@click.option(
    "--schedule",
    default="one-shot",
    show_default=True,
    help="one-shot; of an amount iterative:5, gradual:10 too.",
)
@click.option(
    "--scope",
    type=click.Choice(("global", "layer")),
    default="global",
    show_default=True,
    help="What competes; all for a latency.",
)
@click.option("--round-to", type=click.IntRange(min=1), default=8, show_default=True, help="Channels that are left.")
@click.option("--least", type=float, default=0.1, show_default=True, help="Share of each layer that stays.")
@click.option("--count", type=click.IntRange(min=2), default=256, show_default=True, help="Samples to look at.")
@click.option(
    "--recalibrate", is_flag=True, help="BatchNorm's statistics anew over the samples, if these are real data."
)
@click.option("--fine-tune", default="", metavar="pkg.mod:fn", help="Called with the module and the step after each.")
@click.option(
    "--epochs", type=click.IntRange(min=0), default=0, help="Instead: walks over all samples after the last step."
)
@click.option(
    "--epochs-between", type=click.IntRange(min=0), default=1, show_default=True, help="After the other steps."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Highest learning rate.",
)
@click.option(
    "--loss", default="auto", show_default=True, help="cross-entropy, mse, pkg.mod:fn, teacher (no labels), auto."
)
@click.option(
    "--teacher",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Weight of the unpruned model's outputs beside the labels.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the training.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="That trains."
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="That share a batch: one per GPU."
)
@click.option("--backend", default="onnxruntime", show_default=True, help="That is timed.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the backend [default: its own].")
@click.option("--rounds", type=click.IntRange(min=6), default=6, show_default=True, help="Pairs per measurement.")
@click.option("-o", "--output", "file", type=PLACE, default=Path("pruned.safetensors"), show_default=True)
@store_option
@click.option("--resume/--fresh", default=True, help="Go on with a training that was stopped, as by default; or anew.")
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    source: ModelSource,
    samples: Path,
    target: str,
    what: str,
    by: str,
    amount: float | None,
    latency: str,
    speedup: float | None,
    schedule: str,
    scope: str,
    round_to: int,
    least: float,
    count: int,
    recalibrate: bool,
    fine_tune: str,
    epochs: int,
    epochs_between: int,
    batch_size: int,
    rate: float,
    loss: str,
    teacher: float,
    seed: int,
    device: str,
    processes: int,
    backend: str,
    threads: int | None,
    rounds: int,
    file: Path,
    store: Path | None,
    resume: bool,
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
    from edgeport.contracts import to_jsonable

    with output.progress() as on_progress:
        report = api.prune(
            source,
            samples,
            output=file,
            what=what,
            by=by,
            amount=amount,
            latency=latency,
            speedup=speedup,
            schedule=schedule,
            scope=scope,
            round_to=round_to,
            least=least,
            count=count,
            recalibrate=recalibrate,
            fine_tune=fine_tune,
            training=_training(
                epochs,
                batch_size=batch_size,
                rate=rate,
                loss=loss,
                teacher=teacher,
                seed=seed,
                processes=processes,
            ),
            epochs_between=epochs_between,
            target=target,
            device=device,
            backend=backend,
            threads=threads,
            rounds=rounds,
            store=store,
            on_progress=on_progress,
            fresh=not resume,
        )
    output.show(lambda: to_jsonable(report), lambda console: draw_prune(console, report))
    return exit_code(report.outcome)


def _training(epochs: int, **settings: Any) -> FineTuning | None:
    from edgeport.contracts import FineTuning
    from edgeport.errors import ContractError

    if not epochs:
        _refuse_without_training()
        return None
    try:
        return FineTuning(epochs=epochs, **settings)
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error


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
