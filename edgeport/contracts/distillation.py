"""A distillation: how a student learns, with data or without, and who it is in a step of a recipe's [[compress]]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeport.contracts.model import ModelSource
from edgeport.errors import ContractError

__all__ = ["DistillStep", "Scale", "StudentStep", "WithoutDataStep", "uneven"]


def uneven(batch_size: int, processes: int) -> str:
    """A batch that processes can't share evenly, in words."""
    return f"a batch of {batch_size} for {processes} processes"


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
        processes: That share each batch: one per GPU, or on the CPU any number.
        samples: They are given.

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
    processes: int = 1
    samples: Literal["given"] = "given"

    def __post_init__(self) -> None:
        counts = ("generations", "epochs", "batch_size", "processes")
        wrong = [f"{name} = {getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        wrong += [] if 0 < self.rate < math.inf else [f"a rate of {self.rate}"]
        wrong += [] if 0 <= self.weight_decay < math.inf else [f"a weight decay of {self.weight_decay}"]
        wrong += [] if 0 <= self.lambda_ < math.inf else [f"a lambda of {self.lambda_}"]
        wrong += [] if 0 < self.held_out <= 0.5 else [f"{self.held_out} of the samples held out"]
        wrong += [] if self.batch_size % max(self.processes, 1) == 0 else [uneven(self.batch_size, self.processes)]
        if wrong:
            raise ContractError(
                asked="distil",
                found=", ".join(wrong),
                fix="give counts of 1 or more, a batch that the processes share evenly, a positive rate, a weight "
                "decay and a lambda of 0 or more, and hold out at most half of the samples",
            )

    @property
    def said(self) -> str:
        """In a few words."""
        each = f"{self.generations} generations of " if self.generations > 1 else ""
        return f"{each}{self.epochs} epoch{'' if self.epochs == 1 else 's'}"

    @property
    def functions(self) -> tuple[str, ...]:
        """What it may call of the user: `pkg.mod:fn`, and terms with a setting, which look the same."""
        return tuple(text.split()[-1] for text in (*self.L, *self.R, self.augment) if text.strip())


@dataclass(frozen=True, kw_only=True)
class WithoutDataStep:
    """A student learns from a teacher of what a generator makes, by the same objective without labels.

    Attributes:
        method: "fast", "contrastive" or "dafl"; see `edgeport.exporter.distill.data_free.methods`.
        values: Of the method, where they are not its own.
        steps: Of the student, the generator's warm-up among them.
        L, R, lambda_: As in `DistillStep`; no L for soft targets.
        batch_size: Samples per step.
        optimizer: "adamw", or "sgd" with Nesterov's momentum.
        rate: Learning rate at its highest; it falls as a cosine.
        weight_decay: Of the optimizer.
        mirror: Left and right of an image mean the same.
        mixed: Precision of the forward pass: "fp32" or "bf16".
        average: Decay of the moving average of the weights; None for none.
        seed: Of everything drawn.
        samples: They are made.

    """

    method: str = "fast"
    values: Mapping[str, object] = field(default_factory=dict)
    steps: int = 4000
    L: tuple[str, ...] = ()
    R: tuple[str, ...] = ()
    lambda_: float = 1.0
    batch_size: int = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 1e-3
    weight_decay: float = 1e-4
    mirror: bool = False
    mixed: Literal["fp32", "bf16"] = "fp32"
    average: float | None = None
    seed: int = 0
    samples: Literal["made"] = "made"

    def __post_init__(self) -> None:
        wrong = [f"{name} = {getattr(self, name)}" for name in ("steps", "batch_size") if getattr(self, name) < 1]
        wrong += [] if 0 < self.rate < math.inf else [f"a rate of {self.rate}"]
        wrong += [] if 0 <= self.weight_decay < math.inf else [f"a weight decay of {self.weight_decay}"]
        wrong += [] if 0 <= self.lambda_ < math.inf else [f"a lambda of {self.lambda_}"]
        if wrong:
            raise ContractError(
                asked="distil without data",
                found=", ".join(wrong),
                fix="give counts of 1 or more, a positive rate, a weight decay and a lambda of 0 or more",
            )

    @property
    def said(self) -> str:
        """In a few words."""
        return f"{self.steps} steps without data ({self.method})"

    @property
    def functions(self) -> tuple[str, ...]:
        """As in `DistillStep`."""
        return tuple(text.split()[-1] for text in (*self.L, *self.R) if text.strip())


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A student whose size is chosen for a latency.

    Attributes:
        argument: Of the student's factory: a width, a depth.
        values: To choose from.

    """

    argument: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class StudentStep:
    """A student learns from the model that the recipe names.

    Attributes:
        method: As a recipe calls it.
        student: As it begins, with weights or with random ones; None for what the steps before left.
        scale: The argument of the student's factory that is chosen, so that a latency is met.
        latency_ns: Median that a scaled student is to have on the target.
        speedup: Instead: how many times as fast as the model that the recipe names.
        learning: How it learns: of samples, or without any.
        device: That trains: "cpu", "cuda" or "auto".

    """

    method: Literal["distill"] = "distill"
    student: ModelSource | None = None
    scale: Scale | None = None
    latency_ns: float | None = None
    speedup: float | None = None
    learning: DistillStep | WithoutDataStep = field(default_factory=DistillStep)
    device: str = "auto"

    def __post_init__(self) -> None:
        goals = [goal for goal in (self.latency_ns, self.speedup) if goal is not None]
        asked = "distil into a student of some latency"
        if self.scale is None and goals:
            raise ContractError(
                asked=asked,
                found="nothing about the student that may be changed",
                fix="give an argument of its factory to choose: scale = { width = [8, 16, 32] }; or prune before",
            )
        if self.scale is not None and (self.student is None or len(goals) != 1 or not self.scale.values):
            raise ContractError(
                asked=f"choose {self.scale.argument} for a latency",
                found=f"{len(goals) or 'no'} goal{'s' if len(goals) > 1 else ''}"
                if self.student is not None and self.scale.values
                else "no student whose factory takes it, or no values",
                fix='give values to choose from, and one latency to meet: target = "4x" or "p50 <= 5 ms"',
            )
        if any(not 0 < goal < math.inf for goal in goals) or (self.speedup is not None and self.speedup <= 1):
            raise ContractError(asked=asked, found=f"a goal of {goals[0]:g}", fix="give more than 0; a speedup above 1")

    @property
    def variant(self) -> str:
        """What a model is after it, in a word."""
        return "distilled"

    @property
    def said(self) -> str:
        """In a few words."""
        if self.student is None:
            return f"distil into what is left, {self.learning.said}"
        chosen = ""
        if self.scale is not None:
            goal = f"{self.speedup:.4g}x the speed" if self.speedup is not None else ""
            if self.latency_ns is not None:
                goal = f"p50 <= {self.latency_ns / 1e6:.4g} ms"
            chosen = f" with a {self.scale.argument} for {goal}"
        return f"distil into {self.student.location}{chosen}, {self.learning.said}"

    @property
    def trains(self) -> bool:
        """Weights learn in it."""
        return True

    @property
    def takes_samples(self) -> bool:
        """It learns from samples that are given."""
        return isinstance(self.learning, DistillStep)

    @property
    def functions(self) -> tuple[str, ...]:
        """What it may call of the user."""
        return self.learning.functions
