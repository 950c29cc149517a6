"""Options of `edgeport distill` for a student that learns without data, and what it does then."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeport.cli.options import PLACE, argument, given_options
from edgeport.cli.output import exit_code
from edgeport.cli.ranges import value_range
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.cli.output import Output
    from edgeport.contracts import ModelSource, TensorSpec

__all__ = ["METHODS", "WithoutData", "without_data_options"]

_OF_DATA = (
    *("prune", "by", "latency", "speedup", "scale", "backend", "threads"),
    *("generations", "epochs", "augment", "clip_norm", "patience", "held_out", "processes"),
)
"""Options that make no sense without samples."""

_WITHOUT = ("shape", "between", "steps", "values", "mirror", "keep")
"""Options that make no sense with samples."""

F = TypeVar("F", bound=Callable[..., Any])

METHODS = ("fast", "contrastive", "dafl")
"""Those of `edgeport.exporter.distill.data_free.methods`, which is not loaded for a help text."""


@dataclass(frozen=True, kw_only=True)
class WithoutData:
    """What was asked.

    Attributes:
        method: In `METHODS`; empty for a distillation with data.
        shape: "NAME=batch,3,32,32".
        between: "LOW:HIGH", or empty.
        steps: Of the student.
        values: Of the method.
        mirror: Images may be mirrored.
        keep: `.npz` for samples that were made.

    """

    method: str
    shape: str
    between: str
    steps: int
    values: Mapping[str, Any]
    mirror: bool
    keep: Path | None

    def inputs(self) -> TensorSpec:
        """The input as it was declared.

        Raises:
            UsageError: It was not, or not so that samples of it can be made.

        """
        from edgeport.contracts import TensorSpec
        from edgeport.recipe_init.init import declared_input

        if not self.shape:
            raise UsageError(
                asked="distil without data",
                found="no word of what the models take",
                fix="say it: --input image=batch,3,32,32 --range 0:1",
            )
        guess = declared_input(self.shape)
        sizes = [guess.axes.get(index, size) for index, size in enumerate(guess.shape, start=1)]
        return TensorSpec(
            name=guess.name, dtype=guess.dtype, shape=("batch", *sizes), value_range=value_range(self.between)
        )

    def distil(
        self, teacher: ModelSource, student: ModelSource | None, samples: str, output: Output, options: dict[str, Any]
    ) -> int:
        """Distils without data, and shows what came of it. Returns the exit code.

        Args:
            teacher: Who teaches.
            student: Who learns.
            samples: Labelled ones that judge the student; empty for none.
            output: Where it is shown.
            options: Those of the command that say how a student is made and trained.

        Raises:
            UsageError: No student, or options that need data.

        """
        from edgeport import api
        from edgeport.cli.render_without_data import draw_without_data
        from edgeport.contracts import to_jsonable

        other = _given(_OF_DATA)
        if other:
            raise UsageError(
                asked="distil without data",
                found=f"{other[0]}, which needs data",
                fix="leave it out; a student can be pruned before, and given by --student-weights",
            )
        if student is None:
            raise UsageError(
                asked="distil without data",
                found="no student",
                fix="give one: --student, --student-argument or --student-weights",
            )
        options = {name: value for name, value in options.items() if name not in _OF_DATA}
        with output.progress() as on_progress:
            report = api.distill_without_data(
                teacher,
                student,
                self.inputs(),
                method=self.method,
                values=self.values,
                steps=self.steps,
                mirror=self.mirror,
                made=self.keep,
                judged=Path(samples) if samples else None,
                on_progress=on_progress,
                **options,
            )
        output.show(lambda: to_jsonable(report), lambda console: draw_without_data(console, report))
        return exit_code(report.outcome)


def _given(names: Collection[str]) -> list[str]:
    """Of these parameters, the options that stand on the command line, as they are spelled."""
    return [spelled for name, spelled in given_options().items() if name in names]


def without_data_options(command: F) -> F:
    """Adds them, and hands them over as `without_data`."""

    @click.option(
        "--without-data", type=click.Choice(METHODS), help="No samples: a generator makes them, by this method."
    )
    @click.option(
        "--input", "shape", multiple=True, metavar="NAME=SHAPE", help="Then: image=batch,3,32,32, of both models."
    )
    @click.option("--range", "between", default="", metavar="LOW:HIGH", help="Then: of the input's values.")
    @click.option("--steps", type=click.IntRange(min=1), default=4000, show_default=True, help="Then: of the student.")
    @click.option("--value", "values", multiple=True, metavar="NAME=JSON", help="Then: of the method, as inner=5.")
    @click.option("--mirror", is_flag=True, help="Then: left and right of an image mean the same.")
    @click.option("--keep", type=PLACE, help="Then: .npz for samples that were made; calibration takes it.")
    @functools.wraps(command)
    def wrapped(  # noqa: PLR0913 (one per option)
        *args: Any,
        without_data: str | None,
        shape: tuple[str, ...],
        between: str,
        steps: int,
        values: tuple[str, ...],
        mirror: bool,
        keep: Path | None,
        **kwargs: Any,
    ) -> Any:
        other = _given(_WITHOUT) if without_data is None else []
        if other:
            raise UsageError(
                asked=f"distil with {other[0]}",
                found="no word of how inputs are made, which it is about",
                fix="add --without-data fast, or leave it out",
            )
        if len(shape) > 1:
            raise UsageError(
                asked="distil without data",
                found=f"{len(shape)} inputs: {', '.join(shape)}",
                fix="take models with one input, or distil with samples",
            )
        asked = WithoutData(
            method=without_data or "",
            shape="".join(shape),
            between=between,
            steps=steps,
            values=dict(argument(text) for text in values),
            mirror=mirror,
            keep=keep,
        )
        return command(*args, without_data=asked, **kwargs)

    return wrapped  # type: ignore[return-value]
