"""R: what is asked of the student's function whatever the teacher or the labels say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgeport.exporter.distill.losses.response import class_scores
from edgeport.exporter.distill.objective import BatchOutputs, Tap

__all__ = ["ActivityPenalty", "ConfidencePenalty", "confidence_penalty"]


def confidence_penalty(scores: Tensor) -> Tensor:
    """Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output Distributions" (2017), section 3.

    Args:
        scores: Of classes, float32 [N, C, ...].

    Returns:
        The negative entropy of what softmax makes of them, in nats, the mean over samples and places, [].

    """
    logs = functional.log_softmax(scores, dim=1)
    return (logs.exp() * logs).sum(dim=1).mean()


@dataclass(frozen=True, kw_only=True)
class ConfidencePenalty:
    """See `confidence_penalty`; for classes.

    Attributes:
        weight: Of the loss.
        output: Name of the scores; empty for the first output.
        axis: Of the classes in them, as in `SoftTargets`.

    """

    weight: float = 1.0
    output: str = ""
    axis: int = 1

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        return confidence_penalty(class_scores(seen.output(self.output), self.axis, "ConfidencePenalty"))


@dataclass(frozen=True, kw_only=True)
class ActivityPenalty:
    """The mean square of outputs or features: Merity, McCann and Socher, "Revisiting Activation Regularization for
    Language RNNs" (2017). Small activations have small ranges, which integers like.

    Attributes:
        modules: Paths in the student; none for an output.
        weight: Of the loss, the mean over modules.
        output: Name of the output; empty for the first one.

    """

    modules: tuple[str, ...] = ()
    weight: float = 1.0
    output: str = ""

    @property
    def taps(self) -> tuple[Tap, ...]:
        """See `FeatureTerm`."""
        return tuple(Tap(student=path) for path in self.modules)

    def adapter(self, student: Tensor, teacher: Tensor | None) -> torch.nn.Module | None:
        """See `FeatureTerm`."""
        del student, teacher
        return None

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        found = [seen.feature(self, tap) for tap in self.taps] or [seen.output(self.output)]
        return torch.stack([one.square().mean() for one in found]).mean()
