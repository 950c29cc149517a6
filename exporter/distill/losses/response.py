"""Teacher terms that compare outputs: what the teacher answers, the student learns to answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgeport.errors import DistillationError
from edgeport.exporter.distill.objective import BatchOutputs

__all__ = [
    "CosineDistance",
    "Decoupled",
    "OutputDifference",
    "SoftTargets",
    "class_labels",
    "class_scores",
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
        T squared, so that gradients keep their size, times the divergence KL(teacher, student), the mean over samples
        and places, [].

    """
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence / student.shape[2:].numel()


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
    error = functional.mse_loss(student, teacher)
    return error / teacher.square().mean().clamp(min=1e-12) if relative else error


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One less the cosine between embeddings float32 [N, ..., D], the mean, []."""
    return (1.0 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


@dataclass(frozen=True, kw_only=True)
class SoftTargets:
    """See `soft_targets`; for classes.

    Attributes:
        weight: Of the loss.
        temperature: Above 1, small probabilities count for more.
        output: Name of the scores; empty for the first output.
        axis: Of the classes in them: 1 as PyTorch has it, also of pixels [N, C, H, W]; -1 of tokens [N, T, C].

    """

    weight: float = 1.0
    temperature: float = 4.0
    output: str = ""
    axis: int = 1

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        student, teacher = (class_scores(one, self.axis, "SoftTargets") for one in seen.pair(self.output))
        labels = seen.labels
        of_rows = labels is not None and labels.ndim > 1 and labels.shape == seen.output(self.output).shape[:-1]
        if labels is not None and of_rows and not labels.is_floating_point():
            class_labels(labels, student, "SoftTargets")  # one for each token, which says where its classes are
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

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        student, teacher = (class_scores(one, 1, "Decoupled") for one in seen.pair(self.output))
        labels = class_labels(seen.targets(), student, "Decoupled")
        if student.ndim != 2:
            raise DistillationError(
                asked="compare class scores (Decoupled)",
                found=f"an output {list(student.shape)}",
                fix="give one row of scores per sample, [N, classes], or take SoftTargets",
            )
        return decoupled(student, teacher, labels, alpha=self.alpha, beta=self.beta, temperature=self.temperature)


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

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        names = [self.output] if self.output else [name for name, one in seen.student.items() if _is_float(one)]
        if not names:
            raise DistillationError(
                asked="compare outputs (OutputDifference)",
                found=f"no floats among {', '.join(f'{name}: {one.dtype}' for name, one in seen.student.items())}",
                fix="let the student give its scores or values too",
            )
        # Of lone outputs the name does not matter: a student may call it otherwise.
        alone = len(names) == len(seen.student) == 1 and not self.output
        names = [""] if alone else names
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

    def loss(self, seen: BatchOutputs) -> Tensor:
        """See `Term`."""
        student, teacher = seen.pair(self.output)
        if student.ndim < 2 or student.shape[-1] < 2:
            raise DistillationError(
                asked="compare directions (CosineDistance)",
                found=f"an output {list(student.shape)}",
                fix="give embeddings [N, ..., D], or take OutputDifference, which suits any numbers",
            )
        return cosine_distance(student, teacher)


def _is_float(value: Tensor) -> bool:
    return value.is_floating_point()


def _require_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise DistillationError(
            asked="soften class scores", found=f"a temperature of {temperature}", fix="give a number above 0"
        )


def class_scores(scores: Tensor, axis: int, term: str) -> Tensor:
    """The scores with their classes on axis 1, [N, C, ...].

    Raises:
        DistillationError: They are none.

    """
    fits = scores.ndim >= 2 and scores.is_floating_point() and axis in (*range(1, scores.ndim), -1)
    if not fits or scores.shape[axis] < 2:
        raise DistillationError(
            asked=f"look at class scores ({term})",
            found=f"an output of {scores.dtype} {list(scores.shape)}",
            fix="give scores [N, classes], or take OutputDifference or CosineDistance, which suit any numbers",
        )
    return scores.movedim(axis, 1)


def class_labels(labels: Tensor, scores: Tensor, term: str) -> Tensor:
    """The labels as classes of these scores [N, C, ...]: int64 [N, ...].

    Raises:
        DistillationError: They are none.

    """
    if labels.is_floating_point() or labels.shape != (len(scores), *scores.shape[2:]):
        raise DistillationError(
            asked=f"learn classes from labels ({term})",
            found=f"labels of {labels.dtype} {list(labels.shape)} for scores {list(scores.shape)}, classes on axis 1",
            fix="give a whole number for each row of scores; where these are another output, or classes are their last "
            "axis, as of tokens, say so in Python: output=..., axis=-1",
        )
    return labels.long()
