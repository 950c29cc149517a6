"""Distillation without data from end to end: a student and a teacher in; a trained student, and what it saw, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgeport.contracts import Array, OnProgress, TensorSpec, silent
from edgeport.errors import DistillationError, SamplesError
from edgeport.exporter.distill.data_free.augmentation import Views
from edgeport.exporter.distill.data_free.learned_losses import LearningTerm
from edgeport.exporter.distill.data_free.methods import Fast, Method, require_steps
from edgeport.exporter.distill.data_free.networks import sizes_of
from edgeport.exporter.distill.data_free.synthesizers import synthesizer_of
from edgeport.exporter.distill.data_free.task import DataFreeDistillation, NoSamples
from edgeport.exporter.distill.distilling import identity_of, make_optimizer
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.objective import Objective
from edgeport.exporter.distill.options import DistillOptions, DistillResult
from edgeport.exporter.distill.teacher_student import Network, Pair
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.distributed import DistributedContext, this_process
from edgeport.exporter.train.loop import fit

if TYPE_CHECKING:
    from edgeport.exporter.distill.task import HeldOut

__all__ = ["DataFreeResult", "distill_without_data"]

_KEPT = 1024
"""Samples that are handed out in the end: more than a calibration looks at."""

_NO_RANGE = "No range of the input was declared: what was made has mean 0 and deviation 1 in each channel."


@dataclass(frozen=True, kw_only=True)
class DataFreeResult:
    """What came of it.

    Attributes:
        result: As of a distillation with data; its numbers are empty where nobody could judge.
        samples: Of those that the student learned from, float32 [up to 1024, ...].
        notes: What a reader must know, one sentence each.

    """

    result: DistillResult
    samples: Array
    notes: tuple[str, ...] = ()


def distill_without_data(  # noqa: PLR0913 (who learns what from whom, and how)
    student: Network,
    teacher: Network,
    inputs: TensorSpec,
    method: Method = Fast(),  # noqa: B008 (frozen)
    objective: Objective | None = None,
    *,
    steps: int,
    folder: Path,
    options: DistillOptions = DistillOptions(),  # noqa: B008 (frozen)
    views: Views = Views(),  # noqa: B008 (frozen)
    judged: HeldOut | None = None,
    hardware: DistributedContext | None = None,
    on_progress: OnProgress = silent,
) -> DataFreeResult:
    """Trains a student in place without a sample.

    A killed training goes on where it was when it is called with the same folder again.

    Args:
        student: To learn.
        teacher: A classifier with one float input, in evaluation mode.
        inputs: Of both: every axis but the first has a size. Its range, where declared, is kept to.
        method: Who makes the inputs.
        objective: Terms that need no labels; by default, soft targets at the temperature of Fast's authors, 20.
        steps: That are done, those of the generator's warm-up among them.
        folder: Of this training alone; see `edgeport.exporter.train.loop.fit`.
        options: How to learn; epochs are how often the student is judged, evenly spread over the steps.
        views: How images are changed at random.
        judged: Samples with labels, if there are any, that say which weights are best; else the last ones are kept.
        hardware: This process on the CPU by default.
        on_progress: Told every few steps.

    Raises:
        ContractError: The method's warm-up takes all steps.
        DistillationError: Fewer steps than epochs; a term that needs samples; or a teacher, or a student beside it,
            that the method can't make inputs for.
        SamplesError: The input has no size, is not float, or is not all that a network takes.
        TrainingError: It diverged, or the folder holds another training.

    """
    training = options.training
    _require_training(method, training, steps)
    _, shape = sizes_of([inputs], "make inputs without data")
    objective = objective or Objective(L=(SoftTargets(temperature=20.0),))
    _require_fixed(objective)
    example = {inputs.name: torch.zeros((4, *shape))}
    _require_one_input(student, example, "student")
    _require_one_input(teacher, example, "teacher")
    pair = Pair(student, teacher, objective, example, make_optimizer(options), seed=training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        synthesizer = synthesizer_of(method, pair, inputs, views)
    task = DataFreeDistillation(pair, inputs.name, synthesizer, judged)
    batches = NoSamples(steps // training.epochs * training.batch_size)
    trained = fit(
        task,
        batches,
        training,
        folder,
        identity=identity_of((objective, options, method, inputs, views), teacher),
        hardware=hardware or this_process(),
        on_progress=on_progress,
    )
    return DataFreeResult(
        result=DistillResult(
            objective=f"{objective.said()}, of inputs by {type(method).__name__}",
            before=trained.first,
            after=trained.metrics,
            teacher=judged.of_teacher(pair) if judged is not None else {},
            best_step=trained.best_step,
            steps=trained.steps,
            stopped_early=trained.stopped_early,
        ),
        samples=synthesizer.samples(_KEPT).cpu().numpy(),
        notes=(*synthesizer.notes, *(() if inputs.value_range is not None else (_NO_RANGE,))),
    )


def _require_training(method: Method, training: TrainingSettings, steps: int) -> None:
    """Makes sure that the steps suit the method and the evaluations, and that the precision suits a generator.

    Raises:
        ContractError: The method's warm-up takes all steps.
        DistillationError: Fewer steps than epochs, or fp16.

    """
    if steps < training.epochs:
        raise DistillationError(
            asked=f"distil in {steps} steps, and look at the student {training.epochs} times",
            found="fewer steps than looks",
            fix="give more steps, or fewer epochs",
        )
    if training.precision == "fp16":
        raise DistillationError(
            asked="distil without data in fp16",
            found="a generator, whose inner steps would lose their small gradients",
            fix="take bf16 or fp32",
        )
    require_steps(method, steps // training.epochs * training.epochs)


def _require_fixed(objective: Objective) -> None:
    """Terms with a network of their own take the scale of outputs from samples, which are not there yet.

    Raises:
        DistillationError: The objective has one.

    """
    found = [type(term).__name__ for term in objective.terms if isinstance(term, LearningTerm)]
    if found:
        raise DistillationError(
            asked=f"learn by {found[0]} without data",
            found="a network that is scaled by samples before it learns",
            fix="take other terms; or distil with what was made, as with any samples",
        )


def _require_one_input(network: Network, example: Mapping[str, torch.Tensor], whose: str) -> None:
    """Makes sure that the network takes what is made, and nothing else.

    Raises:
        SamplesError: It takes more, or nothing of that name.

    """
    try:
        network.bound(example)
    except SamplesError as error:
        raise SamplesError(
            asked=f"make {', '.join(example)} without data, and {error.asked}",
            found=f"{error.found}: a generator makes a single input of the {whose}",
            fix="declare the only input, called as in forward; models with several are distilled with samples, or by a "
            "module around them that takes one",
        ) from error
