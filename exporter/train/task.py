"""What the loop is handed: who learns, what one step is, and how good it is by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Batches", "Metrics", "StepContext", "Task", "Trained", "TrainedModule"]

Batch = Mapping[str, "torch.Tensor"]
"""Arrays by name, axis 0 is the batch; on the device that trains."""

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainedModule:
    """A module of the training.

    Attributes:
        module: Moved to the device, and saved in checkpoints. Its modes (train, eval) are the task's own business.
        optimizer: Of what learns in it; None for one that only answers, such as a teacher, which is not saved.

    """

    module: torch.nn.Module
    optimizer: torch.optim.Optimizer | None = None


class Batches(Protocol):
    """Samples that any batch can be made of."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batch(self, rows: list[int]) -> Batch:
        """These samples, on the CPU."""
        ...


class StepContext(Protocol):
    """One step, as the task sees it."""

    @property
    def step(self) -> int:
        """Counted from 0."""
        ...

    def module(self, name: str) -> torch.nn.Module:
        """The module to call; of several processes, it brings their gradients together."""
        ...

    def update(self, name: str, loss: torch.Tensor) -> None:
        """Gradients of `loss` [] by what this module's optimizer holds, and one step of it.

        To be called once or more in a step, for one module after the other: two that play against each
        other each have their losses.
        """
        ...


class Task(Protocol):
    """What is trained.

    Augmentation and whatever else is random is drawn from PyTorch's global generator, so that it is repeated exactly.
    """

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """By name; asked once, before anything is moved."""
        ...

    def step(self, batch: Batch, context: StepContext) -> Mapping[str, float | torch.Tensor]:
        """Computes losses and hands each to `context.update`. Returns what is to be noted."""
        ...

    def evaluate(self, modules: Mapping[str, torch.nn.Module]) -> Metrics:
        """How good the modules are, with their averaged weights where there are some; empty where nobody can tell."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it. The modules hold the weights of the best evaluation.

    Attributes:
        steps: That were done, those before a restart among them.
        metrics: Of the best evaluation.
        first: Of the evaluation before the first step.
        best_step: Steps done when it was made.
        stopped_early: There was patience for no more.
        log: One JSON object per line: step, epoch, and the numbers noted there.

    """

    steps: int
    metrics: Metrics
    first: Metrics
    best_step: int
    stopped_early: bool
    log: Path
