"""Teacher terms that compare outputs: what the teacher answers, the student learns to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeport.errors import DistillationError
from edgeport.exporter.distill.objective import Seen

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CosineDistance",
    "Decoupled",
    "OutputDifference",
    "SoftTargets",
    "cosine_distance",
    "decoupled",
    "output_difference",
    "soft_targets",
]


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2.

    Args:
        student: Scores of classes, float32 [N, C, ...].
        teacher: The same.
        temperature: T, that both are divided by.

    Returns:
        T squared times the divergence KL(teacher, student) per sample [], so that gradients keep their size.

    """
    from torch.nn import functional

    return temperature**2 * functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float, beta: float, temperature: float
) -> Tensor:
    """Zhao et al., "Decoupled Knowledge Distillation" (2022), equation 7: soft targets in two parts.

    Args:
        student: Scores of classes, float32 [N, C].
        teacher: The same.
        labels: Classes, integers [N].
        alpha: Weight of how sure the teacher is of the right class.
        beta: Weight of how it shares the rest out among the other classes.
        temperature: T.

    Returns:
        T squared times the weighted sum, the mean over samples, [].

    """
    import torch
    from torch.nn import functional

    own, other = (functional.log_softmax(scores / temperature, dim=1) for scores in (student, teacher))
    right = functional.one_hot(labels.long(), student.shape[1]).bool()

    def parted(logs: Tensor) -> tuple[Tensor, Tensor]:
        masked = logs.masked_fill(right, -torch.inf)
        rest = masked.logsumexp(dim=1)
        binary = torch.stack([logs[right], rest], dim=1)
        among = (logs - rest[:, None]).masked_fill(right, 0.0)
        return binary, among

    (own_binary, own_among), (binary, among) = parted(own), parted(other)
    target = (binary.exp() * (binary - own_binary)).sum(dim=1)
    shares = among.exp().masked_fill(right, 0.0)
    others = (shares * (among - own_among)).sum(dim=1)
    return temperature**2 * (alpha * target + beta * others).mean()


def output_difference(student: Tensor, teacher: Tensor, *, relative: bool) -> Tensor:
    """The mean squared difference []: of scores before softmax, Ba and Caruana, "Do Deep Nets Really Need to be Deep?"
    (2014), equation 1.

    Args:
        student: float32, any shape.
        teacher: The same.
        relative: Over the teacher's mean square, so that it does not depend on the unit of the output.

    """
    from torch.nn import functional

    error = functional.mse_loss(student, teacher)
    return error / teacher.square().mean().clamp(min=1e-12) if relative else error


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One less the cosine between embeddings float32 [N, ..., D], the mean, []."""
    from torch.nn import functional

    return (1.0 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


@dataclass(frozen=True, kw_only=True)
class SoftTargets:
    """See `soft_targets`; for classes.

    Attributes:
        weight: Of the loss.
        temperature: Above 1, small probabilities count for more.
        output: Name of the scores; empty for the first output.

    """

    weight: float = 1.0
    temperature: float = 4.0
    output: str = ""

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        student, teacher = seen.pair(self.output)
        _require_classes(student, "SoftTargets")
        return soft_targets(student, teacher, self.temperature)


@dataclass(frozen=True, kw_only=True)
class Decoupled:
    """See `decoupled`; for classes with labels.

    Attributes:
        weight: Of the loss.
        alpha, beta: As the authors' for CIFAR-100 by default.
        temperature: T.
        output: Name of the scores; empty for the first output.

    """

    weight: float = 1.0
    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    output: str = ""

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        student, teacher = seen.pair(self.output)
        _require_classes(student, "Decoupled")
        return decoupled(
            student, teacher, seen.targets(), alpha=self.alpha, beta=self.beta, temperature=self.temperature
        )


@dataclass(frozen=True, kw_only=True)
class OutputDifference:
    """See `output_difference`; for regression, embeddings, and scores before softmax.

    Attributes:
        weight: Of the loss.
        relative: Over the teacher's mean square.
        output: Its name; empty for all floating outputs, whose mean is taken.

    """

    weight: float = 1.0
    relative: bool = False
    output: str = ""

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        import torch

        names = [self.output] if self.output else [name for name, one in seen.student.items() if _is_float(one)]
        # Of lone outputs the name does not matter: a student may call it otherwise.
        names = [""] if len(names) == 1 and not self.output else names
        return torch.stack([output_difference(*seen.pair(name), relative=self.relative) for name in names]).mean()


@dataclass(frozen=True, kw_only=True)
class CosineDistance:
    """See `cosine_distance`; for embeddings.

    Attributes:
        weight: Of the loss.
        output: Name of the embeddings; empty for the first output.

    """

    weight: float = 1.0
    output: str = ""

    def loss(self, seen: Seen) -> Tensor:
        """See `Term`."""
        return cosine_distance(*seen.pair(self.output))


def _is_float(value: Tensor) -> bool:
    return value.is_floating_point()


def _require_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise DistillationError(
            asked="soften class scores", found=f"a temperature of {temperature}", fix="give a number above 0"
        )


def _require_classes(scores: Tensor, term: str) -> None:
    if scores.ndim < 2 or scores.shape[1] < 2 or not scores.is_floating_point():
        raise DistillationError(
            asked=f"compare class scores ({term})",
            found=f"an output of {scores.dtype} {list(scores.shape)}",
            fix="give scores [N, classes], or take OutputDifference or CosineDistance, which suit any numbers",
        )
