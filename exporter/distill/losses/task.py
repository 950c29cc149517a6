"""Task terms: what labels say, and whatever a function of the user says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from edgeport.errors import DistillationError
from edgeport.exporter.distill.losses.response import class_labels, class_scores
from edgeport.exporter.distill.objective import BatchOutputs

__all__ = ["Callback", "CrossEntropy", "SquaredError", "is_value_of", "squared_error"]


def squared_error(output: Tensor, labels: Tensor) -> Tensor:
    """The mean squared error, [].

    Args:
        output: float32 [N, ...].
        labels: As many numbers, in the same shape but for axes of length 1, or in one row per sample.

    Raises:
        DistillationError: Labels of another shape.

    """
    if not is_value_of(output.shape, labels.shape):
        raise DistillationError(
            asked="learn by squared error",
            found=f"an output {list(output.shape)} and labels {list(labels.shape)}",
            fix="give labels of the output's shape, or a function (Callback)",
        )
    return functional.mse_loss(output, labels.float().reshape(output.shape))


def is_value_of(output: Sequence[int], labels: Sequence[int]) -> bool:
    """Whether labels of this shape say what an output of that shape should be; axis 0 of both counts samples."""
    if math.prod(output) != math.prod(labels) or output[:1] != labels[:1]:
        return False
    own, other = ([size for size in shape[1:] if size != 1] for shape in (output, labels))
    return own == other or min(len(own), len(other)) <= 1


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Of class scores [N, C, ...] and labels that are classes, integers [N, ...].

    Attributes:
        weight: Of the loss.
        smoothing: Share of the target that all classes get: Szegedy et al., "Rethinking the Inception Architecture"
            (2016), section 7. It makes teachers worse teachers (Müller et al., 2019), students not.
        output: Name of the scores; empty for the first output.
        axis: Of the classes in them, as in `SoftTargets`.

    """

    weight: float = 1.0
    smoothing: float = 0.0
    output: str = ""
    axis: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise DistillationError(
                asked="smooth labels", found=f"a share of {self.smoothing}", fix="give 0 to below 1"
            )

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        scores = class_scores(seen.output(self.output), self.axis, "CrossEntropy")
        labels = class_labels(seen.targets(), scores, "CrossEntropy")
        try:
            return functional.cross_entropy(scores, labels, label_smoothing=self.smoothing)
        except IndexError as error:
            raise DistillationError(
                asked="learn classes from labels (CrossEntropy)",
                found=f"labels of {int(labels.min())} to {int(labels.max())} for {scores.shape[1]} classes",
                fix=f"count classes from 0 to {scores.shape[1] - 1}; what has none is -100",
            ) from error


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """The mean squared error of an output and labels of as many numbers, for regression.

    Attributes:
        weight: Of the loss.
        output: Its name; empty for the first output.

    """

    weight: float = 1.0
    output: str = ""

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        return squared_error(seen.output(self.output), seen.targets())


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A function of the user, for detection or anything else; in L or in R.

    Attributes:
        function: Of `BatchOutputs`, to a number [].
        weight: Of the loss.

    """

    function: Callable[[BatchOutputs], Tensor]
    weight: float = 1.0

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        return self.function(seen)
