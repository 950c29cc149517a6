"""How a student learns, and what comes of it; frozen, checked, and stored as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgeport.contracts import DistillStep, WithoutDataStep
from edgeport.errors import ContractError
from edgeport.exporter.train import TrainingSettings

__all__ = ["DistillOptions", "DistillResult", "options_of"]


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """How to learn, whatever the objective.

    Attributes:
        training: Of the loop. What says which weights are best is chosen by the labels, unless it has a `monitor`.
        optimizer: "adamw" (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), or "sgd" with
            Nesterov's momentum of 0.9 (Sutskever et al., 2013), which convolutional networks from random weights like.
        rate: Learning rate at its highest.
        weight_decay: Of the optimizer; for weights alone, not for biases and norms.
        held_out: Part of the samples that is not trained on, and says which weights are best.

    """

    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=10, batch_size=128))
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 1e-3
    weight_decay: float = 1e-4
    held_out: float = 0.1

    def __post_init__(self) -> None:
        wrong = [] if self.rate > 0 else [f"a rate of {self.rate}"]
        wrong += [] if self.weight_decay >= 0 else [f"a weight decay of {self.weight_decay}"]
        wrong += [] if 0 < self.held_out <= 0.5 else [f"{self.held_out} of the samples held out"]
        wrong += [] if self.optimizer in ("adamw", "sgd") else [f"the optimizer {self.optimizer!r}"]
        if wrong:
            raise ContractError(
                asked="train a student",
                found=", ".join(wrong),
                fix='take "adamw" or "sgd", a positive rate, a weight decay of 0 or more, and hold out at most half of '
                "the samples",
            )


@dataclass(frozen=True, kw_only=True)
class DistillResult:
    """What was learned.

    Attributes:
        objective: In words.
        before, after: Of the student, on the samples that were held out: `top1` where labels are classes, `score` where
            there is a function for it, and `loss`: see `edgeport.exporter.distill.task.HeldOut`.
        teacher: The same of the teacher; empty where there is none, or it can't be judged by itself.
        best_step, steps: When the best weights were found, and how many steps were done.
        stopped_early: No better ones came for a while.

    """

    objective: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    teacher: Mapping[str, float]
    best_step: int
    steps: int
    stopped_early: bool = False
    schema_version: int = 1


def options_of(step: DistillStep | WithoutDataStep) -> DistillOptions:
    """The options of a step, of one generation of it where there are several.

    Raises:
        ContractError: A combination that can't be.

    """
    training = TrainingSettings(batch_size=step.batch_size, precision=step.mixed, average=step.average, seed=step.seed)
    options = DistillOptions(
        training=training, optimizer=step.optimizer, rate=step.rate, weight_decay=step.weight_decay
    )
    if isinstance(step, WithoutDataStep):
        return options
    training = replace(training, epochs=step.epochs, clip_norm=step.clip_norm, patience=step.patience)
    return replace(options, training=training, held_out=step.held_out)
