"""Options of `edgeport distill` for a student that learns without data, and what it does then."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeport.cli.options import given_options
from edgeport.errors import UsageError
from edgeport.options.declare import common_fields, option
from edgeport.options.distill import METHODS, DistillOptions, WithoutDataOptions

if TYPE_CHECKING:
    from edgeport.contracts import TensorSpec

__all__ = ["WithoutData"]

_OF_DATA = (
    *("prune", "by", "latency_ns", "speedup", "scale", "backend", "threads"),
    *("generations", "epochs", "augment", "clip_norm", "patience", "held_out", "processes"),
)
"""Options that make no sense without samples."""

_WITHOUT = ("shapes", "value_range", "steps", "values", "mirror", "made")
"""Options that make no sense with samples."""

_SHARED = ("L", "R", "lambda_", "batch_size", "optimizer", "rate", "weight_decay", "mixed", "average", "seed", "device")


@dataclass(frozen=True, kw_only=True)
class WithoutData(WithoutDataOptions):
    """What the command line says of a distillation without data.

    Attributes:
        method: Empty for a distillation with data.
        shapes: "NAME=batch,3,32,32".
        value_range: Of the input's values.

    """

    method: str = option(
        "",
        "No samples: a generator makes them, by this method.",
        flag="--without-data",
        choices=METHODS,
        default_text=None,
    )
    shapes: tuple[str, ...] = option(
        (), "Then: image=batch,3,32,32, of both models.", flag="--input", metavar="NAME=SHAPE"
    )
    value_range: tuple[float, float] | None = option(
        None, "Then: of the input's values.", flag="--range", parse="interval", default_text="", metavar="LOW:HIGH"
    )

    def check(self) -> None:
        """Makes sure that the options go together.

        Raises:
            UsageError: Those of a generator without one, or several inputs.

        """
        other = _given(_WITHOUT) if not self.method else []
        if other:
            raise UsageError(
                asked=f"distil with {other[0]}",
                found="no word of how inputs are made, which it is about",
                fix="add --without-data fast, or leave it out",
            )
        if len(self.shapes) > 1:
            raise UsageError(
                asked="distil without data",
                found=f"{len(self.shapes)} inputs: {', '.join(self.shapes)}",
                fix="take models with one input, or distil with samples",
            )

    def inputs(self) -> TensorSpec:
        """The input as it was declared.

        Raises:
            UsageError: It was not, or not so that samples of it can be made.

        """
        from edgeport.contracts import TensorSpec
        from edgeport.recipe_init.init import declared_input

        if not self.shapes:
            raise UsageError(
                asked="distil without data",
                found="no word of what the models take",
                fix="say it: --input image=batch,3,32,32 --range 0:1",
            )
        guess = declared_input(self.shapes[0])
        sizes = [guess.axes.get(index, size) for index, size in enumerate(guess.shape, start=1)]
        return TensorSpec(name=guess.name, dtype=guess.dtype, shape=("batch", *sizes), value_range=self.value_range)

    def with_objective(self, options: DistillOptions) -> WithoutDataOptions:
        """These, with the objective and the training of the other options.

        Raises:
            UsageError: Options that need data.

        """
        other = _given(_OF_DATA)
        if other:
            raise UsageError(
                asked="distil without data",
                found=f"{other[0]}, which needs data",
                fix="leave it out; a student can be pruned before, and given by --student-weights",
            )
        own = WithoutDataOptions(**common_fields(WithoutDataOptions, self))
        return replace(own, **{name: getattr(options, name) for name in _SHARED})


def _given(names: Collection[str]) -> list[str]:
    """Of these parameters, the options that stand on the command line, as they are spelled."""
    return [spelled for name, spelled in given_options().items() if name in names]
