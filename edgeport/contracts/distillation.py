"""A distillation, as one step of a recipe's [[compress]] or of a command spells it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeport.errors import ContractError

__all__ = ["DistillStep"]


@dataclass(frozen=True, kw_only=True)
class DistillStep:
    """A student learns from a teacher: min E[L(f_s(x), y)] + lambda E[R(f_s(x))].

    Attributes:
        L: Task and teacher terms, each "WEIGHT NAME:SETTING" ("0.9 soft-targets:4"); empty for what suits the labels.
        R: Regularisers, spelled the same ("confidence").
        lambda_: Factor of R.
        generations: Students, each but the first taught by the one before (Furlanello et al., "Born Again Neural
            Networks", 2018).
        epochs: Walks over the samples, of each of them.
        batch_size: Samples per step.
        optimizer: "adamw", or "sgd" with Nesterov's momentum.
        rate: Learning rate at its highest; it falls as a cosine.
        weight_decay: Of the optimizer; for weights alone, not for biases and norms.
        augment: "crop-flip" or "crop-flip:4" (pixels) for images, `pkg.mod:fn` (feeds by name to feeds by name), or
            empty for none.
        mixed: Precision of the forward pass: "fp32", "bf16" or "fp16".
        average: Decay of the moving average of the weights; None for none.
        clip_norm: Largest norm of the gradient; None for any.
        patience: Evaluations without better weights after which it stops; None: never.
        held_out: Part of the samples that is not trained on, and says which weights are best.
        seed: Of the order of the samples, and of that part.

    """

    L: tuple[str, ...] = ()
    R: tuple[str, ...] = ()
    lambda_: float = 1.0
    generations: int = 1
    epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 1e-3
    weight_decay: float = 1e-4
    augment: str = ""
    mixed: Literal["fp32", "bf16", "fp16"] = "fp32"
    average: float | None = None
    clip_norm: float | None = None
    patience: int | None = None
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("generations", "epochs", "batch_size")
        wrong = [f"{name} = {getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        wrong += [] if 0 < self.rate < math.inf else [f"a rate of {self.rate}"]
        wrong += [] if 0 <= self.weight_decay < math.inf else [f"a weight decay of {self.weight_decay}"]
        wrong += [] if 0 <= self.lambda_ < math.inf else [f"a lambda of {self.lambda_}"]
        wrong += [] if 0 < self.held_out <= 0.5 else [f"{self.held_out} of the samples held out"]
        if wrong:
            raise ContractError(
                asked="distil",
                found=", ".join(wrong),
                fix="give counts of 1 or more, a positive rate, a weight decay and a lambda of 0 or more, and hold out "
                "at most half of the samples",
            )
