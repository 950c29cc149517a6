"""Distillation without data: the objective is that of any other, and a generator stands where the samples would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from edgeport.exporter.distill.data_free.synthesizers import Synthesizer
from edgeport.exporter.distill.teacher_student import Pair
from edgeport.exporter.train import StepContext, TrainedModule

if TYPE_CHECKING:
    from torch import Tensor

    from edgeport.exporter.distill.task import HeldOut
    from edgeport.exporter.train.task import Batch

__all__ = ["DataFreeDistillation", "NoSamples"]


class NoSamples:
    """Batches for a training that makes its own: numbers that stand for samples.

    Args:
        count: Samples per epoch; an epoch has no meaning but that evaluations and rates are counted in it.

    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def batch(self, rows: list[int]) -> Batch:
        """As many as samples are wanted."""
        return {"rows": torch.tensor(rows)}


class DataFreeDistillation:
    """The student learns from synthesized inputs, by the pair's objective.

    Args:
        pair: Student and teacher, and terms that need no labels.
        feed: Name of their input.
        synthesizer: Of the inputs.
        held_out: Samples with labels that the student is judged by, where there are some; None keeps the last weights.

    """

    def __init__(
        self,
        pair: Pair,
        feed: str,
        synthesizer: Synthesizer,
        held_out: HeldOut | None = None,
    ) -> None:
        self._pair, self._feed, self._synthesizer, self._held_out = pair, feed, synthesizer, held_out

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """Student, teacher, and whoever makes inputs."""
        return {**self._pair.trained_modules(), **self._synthesizer.trained_modules()}

    def step(self, batch: Batch, context: StepContext) -> Mapping[str, float | Tensor]:
        """One batch of synthesized inputs."""
        inputs = self._synthesizer.synthesize(context, len(batch["rows"]))
        if inputs.samples is None:
            return inputs.numbers
        seen = self._pair.see({self._feed: inputs.samples}, None, context)
        losses = self._pair.objective(seen)
        context.update("student", losses.total)
        self._pair.after_update(context)
        return {"loss": losses.total.detach(), **losses.parts, **inputs.numbers}

    def evaluate(self, modules: Mapping[str, torch.nn.Module]) -> Mapping[str, float]:
        """On what was held out."""
        del modules  # the pair holds them
        return self._held_out.of_student(self._pair) if self._held_out is not None else {}
