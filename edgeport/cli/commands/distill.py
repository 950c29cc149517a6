"""`edgeport distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeport.cli.options import FILE, PLACE, argument, model_source, samples_place, source_of, store_option
from edgeport.cli.output import Output, exit_code, output_options
from edgeport.cli.without_data_options import WithoutData, without_data_options
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@click.command(name="distill")
@model_source
@click.option("--samples", default="", help="To learn from: .npz, a folder or pkg.mod:fn.")
@click.option("--target", default="", help="Key of the labels in the .npz.")
@click.option("--student", "place", metavar="SOURCE", help="Who learns [default: SOURCE's own code].")
@click.option("--student-weights", type=FILE, help="That it begins with, such as what edgeport prune wrote.")
@click.option("--student-argument", multiple=True, metavar="NAME=JSON", help="Of the student's factory.")
@click.option("--prune", type=float, metavar="AMOUNT", help="Instead: SOURCE without this share of multiplications.")
@click.option("--by", default="l2", show_default=True, metavar="CRITERION", help="What goes first; see edgeport prune.")
@click.option("--latency", default="", metavar="5ms", help="SOURCE is pruned, or --scale chosen, until it is met here.")
@click.option("--speedup", type=float, help="Instead: how many times as fast as SOURCE.")
@click.option("--scale", default="", metavar="NAME=8,16,32", help="Argument of the student's factory to choose.")
@click.option("-L", "of_l", multiple=True, metavar="TERM", help='"0.9 soft-targets:4", ... [default: by the labels].')
@click.option("-R", "of_r", multiple=True, metavar="TERM", help='Regulariser: "confidence", "activity".')
@click.option("--lambda", "factor", type=float, default=1.0, show_default=True, help="Factor of R.")
@click.option("--generations", type=click.IntRange(min=1), default=1, show_default=True, help="Each teaches the next.")
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), default="adamw", show_default=True)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option("--weight-decay", type=click.FloatRange(min=0), default=1e-4, show_default=True)
@click.option("--augment", default="", help="crop-flip, crop-flip:2 (pixels), or pkg.mod:fn.")
@click.option(
    "--mixed", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="While training."
)
@click.option("--average", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Decay of averaged weights.")
@click.option("--clip-norm", type=click.FloatRange(min=0, min_open=True), help="Largest norm of the gradient.")
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many epochs without better weights.")
@click.option(
    "--held-out", type=click.FloatRange(0, 0.5, min_open=True), default=0.1, show_default=True, help="That judges."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="That trains."
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="That share a batch: one per GPU."
)
@click.option("--backend", default="onnxruntime", show_default=True, help="That is timed, for a latency.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the backend [default: its own].")
@click.option("-o", "--output", "file", type=PLACE, default=Path("student.safetensors"), show_default=True)
@without_data_options
@store_option
@click.option("--resume/--fresh", default=True, help="Go on with a training that was stopped, as by default; or anew.")
@output_options
def command(  # noqa: PLR0913 (one per option)
    *,
    source: ModelSource,
    samples: str,
    target: str,
    place: str | None,
    student_weights: Path | None,
    student_argument: tuple[str, ...],
    scale: str,
    of_l: tuple[str, ...],
    of_r: tuple[str, ...],
    factor: float,
    file: Path,
    resume: bool,
    without_data: WithoutData,
    output: Output,
    **options: Any,
) -> int:
    """A small student learns from the trained model SOURCE, its teacher: min E[L] + lambda E[R].

    Writes the student's weights; export, verify and recipes take them as the weights of the student's source. The
    student is a model of its own (--student), SOURCE with pruned weights (--student-weights), or SOURCE pruned here
    (--prune, --speedup, --latency). Training that was stopped goes on where it was.

    \b
    Examples:
      edgeport distill net:create --weights net.safetensors --samples samples.npz --target label --prune 0.8
      edgeport distill net:create --samples samples.npz --student net:small -L "0.9 soft-targets:4" -R confidence
      edgeport distill net:create --samples samples.npz --scale width=8,16,32 --speedup 4
      edgeport distill net:create --student net:small --without-data fast --input image=batch,3,32,32 --range 0:1
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_distill import draw_distill
    from edgeport.contracts import to_jsonable

    objective: dict[str, Any] = {"L": of_l, "R": of_r, "lambda_": factor}
    student = None
    if place is not None or student_weights is not None:
        student = source_of(
            place or source.location, student_weights, student_argument, own=source if not place else None
        )
    elif student_argument or scale:
        student = source_of(source.location, None, student_argument, own=source)
    if without_data.method:
        common = {**objective, "output": file, "target": target, "fresh": not resume, "scale": scale}
        return without_data.distil(source, student, samples, output, {**common, **options})
    if not samples:
        raise UsageError(
            asked=f"distil {source.location}",
            found="no samples to learn from",
            fix="name them (--samples), or let a generator make them: --without-data fast",
        )
    with output.progress() as on_progress:
        report = api.distill(
            source,
            samples_place(samples),
            output=file,
            student=student,
            scale=dict([_scale(scale)]) if scale else None,
            **objective,
            target=target,
            on_progress=on_progress,
            fresh=not resume,
            **options,
        )
    output.show(lambda: to_jsonable(report), lambda console: draw_distill(console, report))
    return exit_code(report.outcome)


def _scale(text: str) -> tuple[str, tuple[float, ...]]:
    """Name and values of `NAME=8,16,32`."""
    name, _, values = text.partition("=")
    name, found = argument(f"{name}=[{values}]")
    return name, tuple(found)
