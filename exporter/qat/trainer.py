"""Quantization-aware training from end to end: a module, its file and a plan in; a model and a plan that suit out."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch

from edgeport.contracts import (
    Array,
    Arrays,
    OnnxModel,
    OnProgress,
    OpenModel,
    QuantizationPlan,
    QuantizationRules,
    silent,
)
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.qat.graph import TrainableGraph, trainable_graph
from edgeport.exporter.qat.node_matching import match_tensors
from edgeport.exporter.qat.options import QatOptions, QatResult
from edgeport.exporter.qat.prepare import QatGraph, prepare, wanted_tensors
from edgeport.exporter.train import StepContext, Trained, TrainedModule
from edgeport.exporter.train.distributed import DistributedContext, this_process
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.losses import Loss, evaluate_loss, loss_for
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LABELS, LearningSamples, parted
from edgeport.onnx_files import read_ir, write_ir

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule

__all__ = ["LearningSamples", "TrainedNetwork", "learn"]

_MATCHED_ON = 8
_EVALUATED_AT_ONCE = 64
_RANGES_FASTER = 10.0
"""Rates of ranges and clips, which are few numbers, over those of weights."""


class TrainedNetwork:
    """What was learned, still in PyTorch."""

    def __init__(self, trainable: TrainableGraph, result: QatResult, device: torch.device) -> None:
        self._trainable, self.result, self._device = trainable, result, device

    def outputs(self, feeds: Arrays) -> dict[str, Array]:
        """What PyTorch gives with the rounding in place: what the runtime's integers are compared with."""
        found: dict[str, list[Array]] = {}
        count = len(next(iter(feeds.values())))
        for start in range(0, count, _EVALUATED_AT_ONCE):
            part = {name: array[start : start + _EVALUATED_AT_ONCE] for name, array in feeds.items()}
            with torch.no_grad():
                given = self._trainable.run(self._trainable.graph, _tensors(part, self._device))
            for name, value in given.items():
                found.setdefault(name, []).append(value.cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}


def learn(  # noqa: PLR0913 (what it is made from, and from what it learns)
    module: torch.nn.Module,
    model: OnnxModel,
    plan: QuantizationPlan,
    rules: QuantizationRules,
    samples: LearningSamples,
    open_model: OpenModel,
    *,
    folder: Path,
    options: QatOptions = QatOptions(),  # noqa: B008 (frozen)
    export: ExportOptions = ExportOptions(),  # noqa: B008 (frozen)
    search_path: Path | None = None,
    hardware: DistributedContext | None = None,
    teacher: torch.nn.Module | None = None,
    on_progress: OnProgress = silent,
) -> TrainedNetwork:
    """Trains a module's weights, and the plan's ranges, with the plan's rounding in the forward pass.

    A killed training goes on where it was when it is called with the same folder again. Of several processes the first
    one writes.

    Args:
        module: Float, in evaluation mode, on the CPU.
        model: The file that was exported from it.
        plan: For that file: static int8, or integer weights alone.
        rules: Of the plan's dialect.
        samples: Of the training; none that candidates are judged on later.
        open_model: Opens an ONNX file in some runtime.
        folder: Gets `model.onnx`, and what the training keeps.
        options: How to learn.
        export: How the file was exported.
        search_path: Folder that a loss of the user is imported from.
        hardware: This process on the CPU by default.
        teacher: Whose outputs are learned from beside the labels; it takes the same feeds and gives outputs of the same
            names. The module itself, before it learned anything, by default.
        on_progress: Told every few steps.

    Raises:
        PlanError: Nothing of the plan is in the PyTorch graph.
        SamplesError: Too few samples, or labels that do not fit the loss.
        TrainingError: It diverged, or the folder holds another training.

    """
    hardware = hardware or this_process()
    example = {name: np.ascontiguousarray(array[:_MATCHED_ON]) for name, array in samples.feeds.items()}
    trainable = trainable_graph(module, example, export)
    float_self = _frozen_copy(trainable.graph)
    other = trainable_graph(teacher, example, export) if teacher is not None else None
    graph = read_ir(model)
    places = match_tensors(trainable, model.path, wanted_tensors(graph.graph, plan), open_model, example)
    rounded = prepare(trainable, graph.graph, plan, rules, places, learn_ranges=options.learn_ranges)
    with torch.no_grad():
        float_outputs = {
            name: value.numpy()
            for name, value in trainable.run(float_self, _tensors(example, torch.device("cpu"))).items()
        }
    loss = loss_for(options, samples.labels, float_outputs, search_path)
    kept, held_out = parted(samples, options.held_out, options.training.batch_size, options.training.seed)
    taught_by = replace(trainable, graph=float_self) if other is None else other
    task = _Task(trainable, taught_by, rounded, loss, options, held_out)
    settings = replace(options.training, monitor="loss", larger_is_better=False)
    trained = fit(task, kept, settings, folder / "training", hardware=hardware, on_progress=on_progress)
    if hardware.rank == 0:
        model = _write(graph, rounded.values(), folder / "model.onnx")
    return TrainedNetwork(trainable, _result(model, plan, rounded, loss, trained), hardware.device)


def _result(model: OnnxModel, plan: QuantizationPlan, rounded: QatGraph, loss: Loss, trained: Trained) -> QatResult:
    found_by = f"{plan.found_by}; trained for {trained.best_step} steps with {loss.said}"
    return QatResult(
        model=model,
        plan=replace(rounded.learned_plan(), model_digest=model.digest, found_by=found_by),
        loss=loss.said,
        before=trained.first,
        after=trained.metrics,
        best_step=trained.best_step,
        steps=trained.steps,
        stopped_early=trained.stopped_early,
        left_float=rounded.left_float,
        fixed=rounded.fixed,
    )


def _frozen_copy(graph: GraphModule) -> GraphModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch's own copying (2.13)
        copied = copy.deepcopy(graph)
    for parameter in copied.parameters():
        parameter.requires_grad = False
    return copied


class _Task:
    """The module learns; its float self teaches."""

    def __init__(
        self,
        trainable: TrainableGraph,
        teacher: TrainableGraph,
        rounded: QatGraph,
        loss: Loss,
        options: QatOptions,
        held_out: ArrayBatches,
    ) -> None:
        self._trainable, self._teacher, self._loss = trainable, teacher, loss
        self._held_out, self._options = held_out, options
        self._ranges = [
            parameter
            for one in {*rounded.activations.values(), *rounded.weights.values()}
            for parameter in one.parameters()
            if parameter.requires_grad
        ]

    def trained_modules(self) -> Mapping[str, TrainedModule]:
        """The one that learns, and its teacher."""
        student = self._trainable.graph
        ranges = {id(one) for one in self._ranges}
        named = [one for one in student.parameters() if one.requires_grad]
        groups = [
            {"params": [one for one in named if id(one) not in ranges], "lr": self._options.rate},
            {"params": [one for one in named if id(one) in ranges], "lr": self._options.rate * _RANGES_FASTER},
        ]
        optimizer = torch.optim.AdamW([one for one in groups if one["params"]], weight_decay=0.0)
        return {
            "student": TrainedModule(module=student, optimizer=optimizer),
            "teacher": TrainedModule(module=self._teacher.graph),
        }

    def step(self, batch: Mapping[str, Tensor], context: StepContext) -> Mapping[str, float | Tensor]:
        """One batch."""
        loss = self._of(context.module("student"), context.module("teacher"), batch)[0]
        context.update("student", loss)
        return {"loss": loss.detach()}

    def evaluate(self, modules: Mapping[str, torch.nn.Module]) -> Mapping[str, float]:
        """The loss on what was held out, and the part of right classes."""
        student, teacher = modules["student"], modules["teacher"]
        device = next(student.parameters()).device
        return evaluate_loss(self._loss, self._held_out, device, lambda batch: self._of(student, teacher, batch))

    def _of(
        self, student: torch.nn.Module, teacher: torch.nn.Module, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        outputs = self._trainable.run(student, batch)
        taught = None
        if self._loss.teacher > 0:
            with torch.no_grad():
                taught = self._teacher.run(teacher, batch)
        return self._loss(outputs, taught, batch.get(LABELS)), outputs


def _tensors(feeds: Arrays, device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)).to(device) for name, array in feeds.items()}


def _write(model: ir.Model, values: Mapping[str, Array], output: Path) -> OnnxModel:
    for name, array in values.items():
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(array.astype(np.float32), name=name)
    return write_ir(model, output)
