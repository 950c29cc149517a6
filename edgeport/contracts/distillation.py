"""A distillation: how a student learns, with data or without, and who it is in a step of a recipe's [[compress]]."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edgeport.contracts.model import ModelSource
from edgeport.errors import ContractError
from edgeport.options.distill import DistillSettings, WithoutDataSettings

__all__ = ["DistillStep", "Scale", "StudentStep", "WithoutDataStep", "uneven"]


def uneven(batch_size: int, processes: int) -> str:
    """A batch that processes can't share evenly, in words."""
    return f"a batch of {batch_size} for {processes} processes"


@dataclass(frozen=True, kw_only=True)
class DistillStep(DistillSettings):
    """A student learns from a teacher: min E[L(f_s(x), y)] + lambda E[R(f_s(x))].

    Attributes:
        samples: They are given.

    """

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
class WithoutDataStep(WithoutDataSettings):
    """A student learns from a teacher of what a generator makes, by the same objective without labels.

    Attributes:
        samples: They are made.

    """

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
