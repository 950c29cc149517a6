"""The loss of synthesized inputs, by the answers of teacher and student: one for all methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgeport.errors import DistillationError
from edgeport.exporter.batch_norm import layers_with_statistics
from edgeport.exporter.distill.data_free.batch_norm import BatchNormMatch
from edgeport.exporter.distill.data_free.losses import (
    activation_loss,
    balance_loss,
    decision_disagreement,
    one_hot_loss,
)
from edgeport.exporter.distill.teacher_student import Pair
from edgeport.exporter.train.frozen_module import answering

__all__ = ["Inversion", "Weights", "class_scores", "teacher_of", "weight_of_statistics"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the parts of the loss; 0 leaves one out."""

    statistics: float = 0.0
    one_hot: float = 0.0
    activation: float = 0.0
    balance: float = 0.0
    disagreement: float = 0.0


@dataclass(frozen=True, kw_only=True)
class InversionLosses:
    """The losses of a batch.

    Attributes:
        loss: Weighted sum, [].
        parts: Each loss before its weight, without gradients.

    """

    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def teacher_of(pair: Pair) -> nn.Module:
    """The module that knows what inputs look like.

    Raises:
        DistillationError: There is none but the student's own average.

    """
    if pair.teacher is None or pair.adapted_student.average is not None:
        raise DistillationError(
            asked="make inputs without data", found="no trained teacher to make them for", fix="give a teacher"
        )
    return pair.teacher


def class_scores(outputs: Mapping[str, Tensor]) -> Tensor:
    """A classifier's first output, float32 [N, classes].

    Raises:
        DistillationError: It is no score of classes.

    """
    found = next(iter(outputs.values()))
    if found.ndim != 2 or found.shape[1] < 2 or not found.is_floating_point():
        raise DistillationError(
            asked="make inputs without data",
            found=f"an output {list(found.shape)}, which is no score of each of two classes or more",
            fix="take a classifier whose first output is [N, classes]; or distil with samples",
        )
    return found.float()


def weight_of_statistics(asked: float | None, teacher: nn.Module, usual: float) -> tuple[float, tuple[str, ...]]:
    """What is asked for, or the usual weight where the teacher has BatchNorm layers; and what should be said of it.

    Raises:
        DistillationError: It is asked for, and the teacher has none.

    """
    there = bool(layers_with_statistics(teacher))
    if asked is None:
        note = "The teacher has no BatchNorm layers: its inputs were made without their statistics."
        return (usual, ()) if there else (0.0, (note,))
    if asked and not there:
        raise DistillationError(
            asked=f"make inputs that fit the BatchNorm statistics of {type(teacher).__name__}",
            found="no BatchNorm layer that keeps any",
            fix="leave the weight of the statistics out: the inputs then fit the teacher's classes alone",
        )
    return asked, ()


class Inversion:
    """The loss of samples that a generator made.

    Args:
        pair: Student and teacher; the student counts only where `disagreement` has a weight.
        feed: Name of their input.
        weights: Of the parts.
        match: Watches the teacher.

    Raises:
        DistillationError: Activation has a weight, and the teacher no fully connected layer.

    """

    def __init__(self, pair: Pair, feed: str, weights: Weights, match: BatchNormMatch) -> None:
        self._pair, self._feed, self._weights, self._match = pair, feed, weights, match
        teacher = teacher_of(pair)
        self._linear = _linear(teacher) if weights.activation else []
        if weights.activation and not self._linear:
            raise DistillationError(
                asked=f"excite what enters the last layer of {type(teacher).__name__}",
                found="no fully connected layer",
                fix="set the weight of activation to 0",
            )

    def __call__(self, samples: Tensor, classes: Tensor | None = None) -> InversionLosses:
        """Of samples [N, ...], with gradients; the classes that they should be, int64 [N], or None for any."""
        weights, entered = self._weights, list[Tensor]()
        hooks = [one.register_forward_pre_hook(lambda _, x: entered.append(x[0])) for one in self._linear]
        try:
            with self._match.watching():
                scores = self._scores(samples)
        finally:
            for hook in hooks:
                hook.remove()
        parts: dict[str, tuple[float, Tensor]] = {}
        if weights.statistics:
            parts["statistics"] = weights.statistics, self._match.distance()
        if weights.one_hot:
            parts["one_hot"] = weights.one_hot, one_hot_loss(scores, classes)
        if weights.activation:
            parts["activation"] = weights.activation, activation_loss(entered[-1])  # of the last one that was called
        if weights.balance:
            parts["balance"] = weights.balance, balance_loss(scores)
        if weights.disagreement:
            with answering(self._pair.adapted_student, through=True):
                own = class_scores(self._pair.adapted_student({self._feed: samples})[0])
            parts["disagreement"] = -weights.disagreement, decision_disagreement(own, scores)
        return InversionLosses(
            loss=torch.stack([factor * part for factor, part in parts.values()]).sum(),
            parts={name: part.detach() for name, (_, part) in parts.items()},
        )

    def _scores(self, samples: Tensor) -> Tensor:
        outputs, _ = self._pair.taught({self._feed: samples}, through=True)
        return class_scores(outputs)


def _linear(module: nn.Module) -> list[nn.Linear]:
    return [one for one in module.modules() if isinstance(one, nn.Linear)]
