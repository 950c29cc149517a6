"""How to train; frozen, checked, and stored as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edgeport.errors import ContractError

__all__ = ["Schedule", "TrainingSettings"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate over the steps, as a factor of what the optimizer was made with.

    It depends on the step alone, so that there is nothing of it to store: a resumed training is where it was.

    Attributes:
        shape: How it falls behind the warm-up: "cosine" (Loshchilov and Hutter, "SGDR", 2017, without restarts),
            "linear", or "constant".
        warmup: Part of the steps in which it rises linearly from 0 (Goyal et al., "Accurate, Large Minibatch SGD",
            2017), 0..1.
        floor: Factor in the last step, 0..1.

    """

    shape: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.floor <= 1) or self.shape not in ("cosine", "linear", "constant"):
            raise ContractError(
                asked=f"change the learning rate as {self.shape!r}",
                found=f"warm-up {self.warmup} and floor {self.floor}",
                fix='take "cosine", "linear" or "constant", a warm-up of 0 to below 1, and a floor of 0 to 1',
            )

    def factor(self, step: int, steps: int) -> float:
        """Of step `step` out of `steps`, counted from 0."""
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = (step - warm) / max(steps - warm, 1)
        falls = {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress, "constant": 1.0}
        return self.floor + (1 - self.floor) * falls[self.shape]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train, whatever is trained.

    Attributes:
        epochs: Walks over the samples.
        batch_size: Samples per step, over all processes together. The last samples of a walk that fill no batch are
            left out of it; the order changes from walk to walk.
        schedule: Of the learning rate, over all steps.
        precision: Of the forward pass: "fp32", "bf16" or "fp16" by autocast (Micikevicius et al., "Mixed Precision
            Training", 2018); weights stay float32, and fp16 scales its losses.
        average: Decay of the moving average of the weights, which is what is evaluated and kept; None for none.
        clip_norm: Largest norm of the gradient of a module (Pascanu et al., 2013); None for any.
        seed: Of the order, and of what the steps draw.
        evaluate_every: Epochs between evaluations; there is one in the end.
        patience: Evaluations without a better one after which training stops; None: never.
        monitor: Name of the evaluation's number that says which is better; empty for its first.
        larger_is_better: Of that number.
        checkpoint_every: Steps between checkpoints; there is one with every evaluation too.

    """

    epochs: int = 1
    batch_size: int = 64
    schedule: Schedule = field(default_factory=Schedule)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    average: float | None = None
    clip_norm: float | None = None
    seed: int = 0
    evaluate_every: int = 1
    patience: int | None = None
    monitor: str = ""
    larger_is_better: bool = True
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        counts = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "evaluate_every": self.evaluate_every,
            "checkpoint_every": self.checkpoint_every,
            "patience": 1 if self.patience is None else self.patience,
        }
        wrong = [f"{name} = {value}" for name, value in counts.items() if value < 1]
        if self.average is not None and not 0 < self.average < 1:
            wrong.append(f"average = {self.average}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            wrong.append(f"clip_norm = {self.clip_norm}")
        if self.precision not in ("fp32", "bf16", "fp16"):
            wrong.append(f"precision = {self.precision!r}")
        if wrong:
            raise ContractError(
                asked="train",
                found=", ".join(wrong),
                fix="give counts of 1 or more, a decay between 0 and 1, a positive norm, and fp32, bf16 or fp16",
            )
