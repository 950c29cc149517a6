"""What labels say of a student, and so what judges it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgeport.contracts import Array
from edgeport.errors import DistillationError
from edgeport.exporter.distill.losses.regularizers import ConfidencePenalty
from edgeport.exporter.distill.losses.response import CosineDistance, Decoupled, SoftTargets
from edgeport.exporter.distill.losses.task import CrossEntropy, SquaredError, is_value_of
from edgeport.exporter.distill.objective import BatchOutputs, Objective
from edgeport.exporter.distill.task import HeldOut, Score
from edgeport.exporter.distill.teacher_student import Network, answers
from edgeport.exporter.train.losses import suggested_loss
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LearningSamples

__all__ = ["LOOKED_AT", "LabelEvaluation", "evaluation_by_labels", "example_of", "require_samples"]

LOOKED_AT = 4
"""Samples that networks are looked at with before the training."""

_OF_CLASSES = (CrossEntropy, SoftTargets, Decoupled, ConfidencePenalty)
"""Terms to which an output is scores of classes."""


@dataclass(frozen=True, kw_only=True)
class LabelEvaluation:
    """What labels say of a student.

    Attributes:
        kind: As `edgeport.exporter.train.losses.suggested_loss` tells it.
        output: That they are of.
        scores: It, of some samples.
        labels: All of them.

    """

    kind: str
    output: str
    scores: Array
    labels: Array | None

    def held_out(self, batches: ArrayBatches, score: Score | None) -> HeldOut:
        """What judges by them."""
        values = False
        if self.kind == "mse" and self.labels is not None:
            values = is_value_of(self.scores[:1].shape, self.labels[:1].shape)
        return HeldOut(
            batches=batches,
            classes=self.kind == "cross-entropy",
            values=values,
            output=self.output,
            score=score,
        )


def evaluation_by_labels(
    student: Network, samples: LearningSamples, objective: Objective | None, output: str
) -> LabelEvaluation:
    """By the output that is named, or that the first term of labels names."""
    terms = objective.L if objective is not None else ()
    named = [one.output for one in terms if isinstance(one, CrossEntropy | SquaredError | Decoupled)]
    shown = BatchOutputs(student=answers(student, example_of(samples)))
    name = output or (named[0] if named else "") or next(iter(shown.student))
    scores, labels = shown.output(name).cpu().numpy(), samples.labels
    kind = suggested_loss(labels, scores)
    if kind == "cross-entropy" and objective is not None and labels is not None:
        kind = kind if _are_classes(objective, name, labels, scores.shape[1]) else "teacher"
    return LabelEvaluation(kind=kind, output=name, scores=scores, labels=labels)


def require_samples(evaluation: LabelEvaluation) -> None:
    """Makes sure that labels, if there are some, are of an output that has samples.

    Raises:
        DistillationError: It is one number for a whole batch, such as a loss.

    """
    if evaluation.labels is not None and not evaluation.scores.ndim:
        raise DistillationError(
            asked="learn from labels",
            found=f"one number for the whole batch as the output {evaluation.output!r}",
            fix="name the output that labels are of (output), or let the student give it first",
        )


def _are_classes(objective: Objective, output: str, labels: Array, scores: int) -> bool:
    """Whether whole numbers are classes to it. Of embeddings [N, D] they may be whose sample it is, as of speakers."""
    terms = [one for one in objective.terms if getattr(one, "output", "") in ("", output)]
    if any(isinstance(one, _OF_CLASSES) for one in terms):
        return True
    compared = any(isinstance(one, CosineDistance) for one in terms)
    return not compared and bool(0 <= labels.min() <= labels.max() < scores)


def example_of(samples: LearningSamples) -> dict[str, torch.Tensor]:
    """The first of them, to look at networks with before the training."""
    return {name: torch.from_numpy(np.array(one[:LOOKED_AT])) for name, one in samples.feeds.items()}
