"""Distillation with data from end to end: a student, a teacher and samples in; a trained student out."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeport.contracts import OnProgress, digest_bytes, silent
from edgeport.errors import DistillationError
from edgeport.exporter.distill.evaluation import LOOKED_AT, evaluation_by_labels, example_of, require_samples
from edgeport.exporter.distill.learned_losses.adversarial import Adversarial
from edgeport.exporter.distill.learned_losses.terms import with_learning_terms
from edgeport.exporter.distill.learned_losses.variational import Variational
from edgeport.exporter.distill.loss_factory import DEFAULTS, make_objective
from edgeport.exporter.distill.losses.feature import Relational
from edgeport.exporter.distill.losses.regularizers import ActivityPenalty, ConfidencePenalty
from edgeport.exporter.distill.losses.response import CosineDistance, Decoupled, SoftTargets
from edgeport.exporter.distill.losses.task import CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import Objective, Term
from edgeport.exporter.distill.options import DistillOptions, DistillResult
from edgeport.exporter.distill.task import Augment, Distillation, Score
from edgeport.exporter.distill.teacher_student import MakeOptimizer, MovingAverage, Network, Pair
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.train.distributed import DistributedContext, this_process
from edgeport.exporter.train.frozen_module import answering
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.losses import require_classes
from edgeport.exporter.train.sampler import ArrayBatches
from edgeport.exporter.train.samples import LearningSamples, parted

__all__ = [
    "BornAgain",
    "born_again",
    "default_objective",
    "distill",
    "identity_of",
    "make_optimizer",
    "monitored",
    "of_output",
]

_SCALED_BY = 256
"""Samples by which terms that hold a network tell the scale of outputs."""

_MOMENTUM = 0.9

_OF_ONE_OUTPUT = (
    CrossEntropy,
    SquaredError,
    SoftTargets,
    Decoupled,
    CosineDistance,
    Relational,
    Adversarial,
    Variational,
    ConfidencePenalty,
    ActivityPenalty,
)
"""Terms of the first output, where they name none; all others are of all outputs, or know best."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Of a function, as Python prints it; another one in each process."""


def distill(  # noqa: PLR0913 (who learns what from whom, and how)
    student: Network,
    teacher: Network | MovingAverage | None,
    samples: LearningSamples,
    objective: Objective | None = None,
    *,
    folder: Path,
    options: DistillOptions = DistillOptions(),  # noqa: B008 (frozen)
    augment: Augment | None = None,
    score: Score | None = None,
    output: str = "",
    hardware: DistributedContext | None = None,
    on_progress: OnProgress = silent,
) -> DistillResult:
    """Trains a student in place; it holds the weights that were best on the samples that are held out.

    A killed training goes on where it was when it is called with the same folder again.

    Args:
        student: To learn; what it begins with counts as a candidate too.
        teacher: Who teaches: another network, the student's own average, or nobody.
        samples: Of the training; none that the student is judged on later.
        objective: What is learned from; by default, what suits the labels (`default_objective`).
        folder: Of this training alone; see `edgeport.exporter.train.loop.fit`.
        options: How to learn.
        augment: See `Distillation`.
        score: Says how good outputs are, instead of the part of right classes.
        output: That labels are of, and every term that names none; empty for the first one.
        hardware: This process on the CPU by default.
        on_progress: Told every few steps.

    Raises:
        DistillationError: An objective that does not suit student, teacher or samples.
        SamplesError: Too few samples, or such as a network does not take.
        TrainingError: It diverged, or the folder holds another training.

    """
    kept, held_out = parted(samples, options.held_out, options.training.batch_size, options.training.seed)
    for network in (student, teacher):
        if isinstance(network, Network):
            _require_fit(network, samples)
    evaluation = evaluation_by_labels(student, samples, objective, output)
    if evaluation.kind == "cross-entropy":
        require_classes(samples.labels, evaluation.scores)
    if objective is None:
        require_samples(evaluation)
        objective = default_objective(evaluation.kind, taught=teacher is not None)
    objective = of_output(objective, output)
    pair = Pair(student, teacher, objective, example_of(samples), make_optimizer(options), seed=options.training.seed)
    judged = evaluation.held_out(held_out, score)
    by, larger = monitored(options, judged.names)
    settings = replace(options.training, monitor=by, larger_is_better=larger)
    count = len(next(iter(samples.feeds.values())))
    look = np.linspace(0, count - 1, min(count, _SCALED_BY)).astype(np.int64)  # of all: they may lie class by class
    feeds = {name: torch.from_numpy(np.array(one[look])) for name, one in samples.feeds.items()}
    labels = None if samples.labels is None else torch.from_numpy(np.array(samples.labels[look]))
    task = with_learning_terms(Distillation(pair, judged, augment), pair, feeds, labels, options.training.seed)
    shown = (*feeds.values(), *(() if labels is None else (labels,)))
    trained = fit(
        task,
        kept,
        settings,
        folder,
        identity=identity_of((objective, options, augment), teacher, shown),
        hardware=hardware or this_process(),
        on_progress=on_progress,
    )
    return DistillResult(
        objective=objective.said(),
        before=trained.first,
        after=trained.metrics,
        teacher=judged.of_teacher(pair) if isinstance(teacher, Network) else {},
        best_step=trained.best_step,
        steps=trained.steps,
        stopped_early=trained.stopped_early,
    )


def _require_fit(network: Network, samples: LearningSamples) -> None:
    """Makes sure, before anything is learned, that a network takes the samples.

    Raises:
        SamplesError: It does not, or the first of them are no finite numbers.

    """
    feeds = {name: one[:LOOKED_AT] for name, one in samples.feeds.items()}
    with answering(network.module):
        Samples(feeds=feeds, parameters=network.parameters, constants=network.constants).require_fit(network.module)


def of_output(objective: Objective, output: str) -> Objective:
    """The objective whose terms of one output are of this one, where they name none; as it is without a name."""
    if not output:
        return objective

    def named(term: Term) -> Term:
        return replace(term, output=output) if isinstance(term, _OF_ONE_OUTPUT) and not term.output else term

    return replace(objective, L=tuple(map(named, objective.L)), R=tuple(map(named, objective.R)))


def identity_of(how: object, teacher: Network | MovingAverage | None, shown: Iterable[torch.Tensor] = ()) -> str:
    """What makes it this training, beside settings and sizes: equal from one process to the next.

    Args:
        how: All that is chosen; its text counts.
        teacher: The weights of another network count.
        shown: Of the samples.

    """
    taught = teacher.module.state_dict().values() if isinstance(teacher, Network) else ()
    plain = (one for one in (*taught, *shown) if type(one) is torch.Tensor and one.layout is torch.strided)
    each = (one.cpu().contiguous().flatten().view(torch.uint8).numpy() for one in plain if not one.is_quantized)
    said = _ADDRESS.sub("", repr(how)).encode()
    return digest_bytes(chain([said], (one.tobytes() for one in each)))


@dataclass(frozen=True, kw_only=True)
class BornAgain:
    """What generations of students gave.

    Attributes:
        student: The best of them.
        best: Its number, counted from 0.
        results: Of each.

    """

    student: Network
    best: int
    results: tuple[DistillResult, ...]


def born_again(  # noqa: PLR0913 (those of distill)
    make_student: Callable[[], Network],
    teacher: Network | None,
    samples: LearningSamples,
    objective: Objective | None = None,
    *,
    generations: int,
    folder: Path,
    options: DistillOptions = DistillOptions(),  # noqa: B008 (frozen)
    augment: Augment | None = None,
    score: Score | None = None,
    output: str = "",
    hardware: DistributedContext | None = None,
    on_progress: OnProgress = silent,
) -> BornAgain:
    """Students that learn from each other, one after the other: Furlanello et al., "Born Again Neural Networks" (2018).

    Args:
        make_student: A new one, as it begins, for each generation.
        teacher: Of the first; without one the first learns from labels alone, as the teachers of the paper do.
        samples: As in `distill`.
        objective: As in `distill`; a first student without a teacher learns from labels alone.
        generations: How many students.
        folder: Gets a folder for each.
        options: As in `distill`.
        augment: As in `distill`.
        score: As in `distill`.
        output: As in `distill`.
        hardware: As in `distill`.
        on_progress: As in `distill`.

    Raises:
        DistillationError: No generation; several, and nothing to compare them by; or modules to look at that the
            teacher has, and students have not.
        EdgeportError: As `distill`.

    """
    if generations < 1:
        raise DistillationError(
            asked=f"train {generations} generations of students", found="no student", fix="give 1 or more"
        )
    results: list[DistillResult] = []
    students: list[Network] = []
    for number in range(generations):
        student = make_student()
        if number == 0 and generations > 1:
            _require_generations(student, samples, objective, score, output)
        above = students[-1] if students else teacher
        result = distill(
            student,
            above,
            samples,
            objective if above is not None else None,
            folder=folder / f"generation-{number}",
            options=options,
            augment=augment,
            score=score,
            output=output,
            hardware=hardware,
            on_progress=on_progress,
        )
        results.append(result)
        students.append(student)
    by, larger = monitored(options, results[0].after)
    best = max(range(generations), key=lambda number: results[number].after[by] * (1 if larger else -1))
    return BornAgain(student=students[best], best=best, results=tuple(results))


def _require_generations(
    student: Network, samples: LearningSamples, objective: Objective | None, score: Score | None, output: str
) -> None:
    """Makes sure that the second student can be taught, and the best one told.

    The objective tells none: each of them has another teacher in it.
    """
    judged = evaluation_by_labels(student, samples, objective, output).held_out(ArrayBatches(samples.feeds), score)
    if not judged.by_outputs:
        raise DistillationError(
            asked="keep the best of several generations",
            found="no labels of classes or values to compare them by",
            fix="give labels (target), a score, or one generation",
        )
    terms = objective.feature_terms if objective is not None else ()
    paths = dict(student.module.named_modules())
    lacking = [tap.teacher for term in terms for tap in term.taps if tap.teacher and tap.teacher not in paths]
    if lacking:
        raise DistillationError(
            asked="let a student teach the next generation",
            found=f"module {lacking[0]!r} to look at, which the teacher has and the student has not",
            fix="take terms of outputs, modules that both have, or one generation",
        )


def monitored(options: DistillOptions, numbers: Container[str]) -> tuple[str, bool]:
    """The number that says which weights are best, and whether larger is better."""
    by = options.training.monitor or next(name for name in ("score", "top1", "loss") if name in numbers)
    return by, by != "loss"


def default_objective(kind: str, *, taught: bool) -> Objective:
    """What suits the labels.

    Args:
        kind: As `edgeport.exporter.train.losses.suggested_loss` tells it.
        taught: There is a teacher.

    Raises:
        DistillationError: Neither a teacher nor labels that say anything.

    """
    if taught:
        return make_objective(DEFAULTS[kind], (), 0.0)
    if kind == "teacher":
        raise DistillationError(
            asked="train a student", found="neither a teacher nor labels to learn from", fix="give one of them"
        )
    return make_objective((DEFAULTS[kind][0].split()[1],), (), 0.0)


def make_optimizer(options: DistillOptions) -> MakeOptimizer:
    """The optimizer of a student, whose weight decay leaves biases and norms alone."""

    def make(parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        every = list(parameters)
        matrices = [one for one in every if one.ndim > 1]
        others = [one for one in every if one.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        groups = [one for one in groups if one["params"]]
        if options.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=options.rate, momentum=_MOMENTUM, nesterov=True)
        return torch.optim.AdamW(groups, lr=options.rate)

    return make
