"""`edgeport distill`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeport.cli.options import (
    model_source,
    options_of,
    output_option,
    resume_option,
    source_of,
    store_option,
    target_option,
)
from edgeport.cli.output import Output, output_options
from edgeport.cli.parsing import parse_samples
from edgeport.cli.without_data_options import WithoutData
from edgeport.errors import UsageError
from edgeport.options.declare import option
from edgeport.options.distill import DistillOptions
from edgeport.options.source import SourceOptions

if TYPE_CHECKING:
    from edgeport.contracts import ModelSource

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _Options(DistillOptions):
    """With who learns.

    Attributes:
        student: Location of its source.
        student_weights: That it begins with.
        student_arguments: Of its factory.

    """

    student: str | None = option(None, "Who learns [default: SOURCE's own code].", metavar="SOURCE")
    student_weights: Path | None = option(None, "That it begins with, such as what edgeport prune wrote.")
    student_arguments: Mapping[str, object] = option(
        factory=dict,
        text="Of the student's factory.",
        flag="--student-argument",
        parse="arguments",
        metavar="NAME=JSON",
    )

    def student_of(self, source: ModelSource) -> ModelSource | None:
        """The model that learns: one of its own, or the teacher with other weights and arguments; None for neither."""
        if self.student is not None:
            own = SourceOptions(weights=self.student_weights, arguments=self.student_arguments)
            return source_of(self.student, own)
        if self.student_weights is None and not self.student_arguments and not self.scale:
            return None
        arguments = {**source.arguments, **self.student_arguments}
        return replace(source, weights=self.student_weights, arguments=arguments)


@click.command(name="distill")
@model_source
@click.option("--samples", default="", help="To learn from: .npz, a folder or pkg.mod:fn.")
@target_option("Key of the labels in the .npz.")
@options_of(
    _Options,
    "student student_weights student_arguments prune by latency_ns speedup scale L R lambda_ generations epochs "
    "batch_size optimizer rate weight_decay augment mixed average clip_norm patience held_out seed device processes "
    "backend threads",
)
@output_option("student.safetensors")
@options_of(WithoutData, "method shapes value_range steps values mirror made", to="without_data")
@store_option
@resume_option("Go on with a training that was stopped, as by default; or anew.")
@output_options
def command(
    *,
    source: ModelSource,
    samples: str,
    target: str,
    options: _Options,
    place: Path,
    without_data: WithoutData,
    store: Path | None,
    fresh: bool,
    output: Output,
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
    from edgeport.cli.render_without_data import draw_without_data

    without_data.check()
    student = options.student_of(source)
    if without_data.method:
        chosen = without_data.with_objective(options)
        if student is None:
            raise UsageError(
                asked="distil without data",
                found="no student",
                fix="give one: --student, --student-argument or --student-weights",
            )
        with output.progress() as on_progress:
            made = api.distill_without_data(
                source,
                student,
                without_data.inputs(),
                output=place,
                options=chosen,
                judged=Path(samples) if samples else None,
                target=target,
                store=store,
                on_progress=on_progress,
                fresh=fresh,
            )
        return output.report(made, draw_without_data)
    if not samples:
        raise UsageError(
            asked=f"distil {source.location}",
            found="no samples to learn from",
            fix="name them (--samples), or let a generator make them: --without-data fast",
        )
    with output.progress() as on_progress:
        report = api.distill(
            source,
            parse_samples(samples),
            output=place,
            student=student,
            options=options,
            target=target,
            store=store,
            on_progress=on_progress,
            fresh=fresh,
        )
    return output.report(report, draw_distill)
