"""Task terms: what labels say, and whatever a function of the user says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeport.errors import DistillationError
from edgeport.exporter.distill.objective import Seen

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Callback", "CrossEntropy", "SquaredError"]


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Of class scores [N, C, ...] and labels that are classes, integers [N, ...].

    Attributes:
        weight: Of the loss.
        smoothing: Share of the target that all classes get: Szegedy et al., "Rethinking the Inception Architecture"
            (2016), section 7. It makes teachers worse teachers (Müller et al., 2019), students not.
        output: Name of the scores; empty for the first output.

    """

    weight: float = 1.0
    smoothing: float = 0.0
    output: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise DistillationError(
                asked="smooth labels", found=f"a share of {self.smoothing}", fix="give 0 to below 1"
            )

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        from torch.nn import functional

        scores, labels = seen.output(self.output), seen.targets()
        return functional.cross_entropy(scores, labels.long(), label_smoothing=self.smoothing)


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """The mean squared error of an output and labels of as many numbers, for regression.

    Attributes:
        weight: Of the loss.
        output: Its name; empty for the first output.

    """

    weight: float = 1.0
    output: str = ""

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        from torch.nn import functional

        found, labels = seen.output(self.output), seen.targets()
        if found.numel() != labels.numel():
            raise DistillationError(
                asked="learn by squared error",
                found=f"an output {list(found.shape)} and labels {list(labels.shape)}",
                fix="give labels of the output's shape, or a function (Callback)",
            )
        return functional.mse_loss(found, labels.float().reshape(found.shape))


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A function of the user, for detection or anything else; in L or in R.

    Attributes:
        function: Of a `Seen`, to a number [].
        weight: Of the loss.

    """

    function: Callable[[Seen], Tensor]
    weight: float = 1.0

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        import torch

        found = self.function(seen)
        if not isinstance(found, torch.Tensor) or found.ndim or not found.is_floating_point():
            shape = f"{found.dtype} {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
            raise DistillationError(
                asked=f"learn by {getattr(self.function, '__name__', 'a function')}",
                found=f"that it gives {shape}",
                fix="give a loss of no axes, the mean over the samples",
            )
        return found
