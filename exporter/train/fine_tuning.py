"""A module as it is, trained on: on labels, on what another module answers, or on both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgeport.contracts import FineTuning, OnProgress, silent
from edgeport.exporter.input_binding import Binding, bind_feeds
from edgeport.exporter.output_naming import name_outputs
from edgeport.exporter.train.distributed import DistributedContext
from edgeport.exporter.train.frozen_module import answering
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.losses import Loss, evaluate_loss, loss_for
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LABELS, LearningSamples, parted
from edgeport.exporter.train.settings import TrainingSettings
from edgeport.exporter.train.task import StepContext, Trained, TrainedModule

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StudentSetup", "fine_tune"]

_LOOKED_AT = 4


@dataclass(frozen=True, kw_only=True)
class StudentSetup:
    """How a module is called, and by whom it is taught.

    Attributes:
        parameters, constants: As in `ExportOptions`.
        teacher: Answers the same feeds with outputs of the same names, in evaluation mode, and is as it was afterwards;
            needed where its weight is above 0.
        search_path: Folder that a loss of the user is imported from.

    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    teacher: torch.nn.Module | None = None
    search_path: Path | None = None


def fine_tune(  # noqa: PLR0913 (what is trained, from what it learns, and how)
    module: torch.nn.Module,
    samples: LearningSamples,
    asked: FineTuning,
    folder: Path,
    *,
    setup: StudentSetup = StudentSetup(),
    hardware: DistributedContext | None = None,
    on_progress: OnProgress = silent,
) -> Trained:
    """Trains a module in place, with its batch norms and dropout at work; then it is in evaluation mode.

    It is left with the weights that were best on the samples that are held out, those from before the first step among
    them. Killed and called again with the same folder, it goes on where it was.

    Args:
        module: On the CPU, where it is in the end too.
        samples: To learn from; none that the result is judged on.
        asked: How.
        folder: Of this training alone.
        setup: How the module is called, and by whom it is taught.
        hardware: This process on the CPU by default.
        on_progress: Told every few steps.

    Raises:
        SamplesError: Too few samples, or labels that do not fit the loss.
        SourceError: The user's loss can't be imported.
        TrainingError: It diverged, or the folder holds another training.

    """
    first = {name: np.ascontiguousarray(array[:_LOOKED_AT]) for name, array in samples.feeds.items()}
    binding = bind_feeds(module, first, setup.parameters, setup.constants)
    module.eval()
    with torch.no_grad():
        args, kwargs = binding.tensors(first)
        shown = {name: value.float().numpy() for name, value in name_outputs(module(*args, **kwargs)).items()}
    loss = loss_for(asked, samples.labels, shown, setup.search_path)
    kept, held_out = parted(samples, asked.held_out, asked.batch_size, asked.seed)
    task = _Task(module, setup.teacher, binding, loss, asked, held_out)
    settings = TrainingSettings(
        epochs=asked.epochs,
        batch_size=asked.batch_size,
        precision=asked.mixed,
        average=asked.average,
        clip_norm=asked.clip_norm,
        seed=asked.seed,
        patience=asked.patience,
        monitor="loss",
        larger_is_better=False,
    )
    try:
        return fit(task, kept, settings, folder, hardware=hardware, on_progress=on_progress)
    finally:
        module.to("cpu").eval()


class _Task:
    """The module learns; its teacher, if it has one, answers."""

    def __init__(
        self,
        module: torch.nn.Module,
        teacher: torch.nn.Module | None,
        binding: Binding,
        loss: Loss,
        asked: FineTuning,
        held_out: ArrayBatches,
    ) -> None:
        self._module, self._binding, self._loss = module, binding, loss
        self._asked, self._held_out = asked, held_out
        self._teacher = teacher if loss.teacher > 0 else None

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The one that learns, and its teacher."""
        learned = [one for one in self._module.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=self._asked.rate, weight_decay=self._asked.weight_decay)
        modules = {"student": TrainedModule(module=self._module, optimizer=optimizer)}
        if self._teacher is not None:
            modules["teacher"] = TrainedModule(module=self._teacher)
        return modules

    def step(self, batch: Mapping[str, Tensor], context: StepContext) -> Mapping[str, float | Tensor]:
        """One batch."""
        student = context.module("student").train()
        teacher = context.module("teacher") if self._teacher is not None else None
        loss = self._of(student, teacher, batch)[0]
        context.update("student", loss)
        return {"loss": loss.detach()}

    def evaluate(self, modules: Mapping[str, torch.nn.Module]) -> Mapping[str, float]:
        """The loss on what was held out, and the part of right classes."""
        student = modules["student"].eval()
        device = next(student.parameters()).device
        return evaluate_loss(
            self._loss, self._held_out, device, lambda batch: self._of(student, modules.get("teacher"), batch)
        )

    def _of(
        self, student: torch.nn.Module, teacher: torch.nn.Module | None, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        outputs = self._run(student, batch)
        taught = None
        if teacher is not None:
            with answering(teacher):
                taught = self._run(teacher, batch)
        return self._loss(outputs, taught, batch.get(LABELS)), outputs

    def _run(self, module: torch.nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        args, kwargs = self._binding.filled(lambda name: batch[name])
        return name_outputs(module(*args, **kwargs))
