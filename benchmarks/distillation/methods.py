"""Every way to teach with data, on scikit-learn's digits: a fourth of the teacher's width learns from few of them.

All students of a seed begin with the same weights, and see the same digits in the same order, as often. Weights of
terms are chosen on digits that the student does not learn from and nobody is judged by: `--part methods --on train`
goes through `CANDIDATES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from torch import nn

from benchmarks.distillation.digit_networks import LEARNED, Digits
from benchmarks.distillation.students import StudentRow, by_name
from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, kept_by_key, paired
from edgeport.exporter.distill.distilling import born_again, distill
from edgeport.exporter.distill.loss_factory import make_objective
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.teacher_student import MovingAverage, Network
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.samples import LearningSamples

SEEDS, SEEDS_CHOOSING, SEEDS_SHORT = tuple(range(10)), tuple(range(5)), (0, 1)
EPOCHS, EPOCHS_SHORT = 60, 1
_FEW = 200
"""Digits that a student learns from."""

_CHOOSING = slice(500, LEARNED)
"""Of the teacher's digits, those that judge students where settings are chosen."""

_TAPS = "2,5,8"
ALONE = "labels alone"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to learn.

    Attributes:
        name: In the table.
        L: As the command line spells it.
        R: The same, at `lambda_`.
        lambda_: Weight of R.
        teacher: "network", "average" (the student's own), "earlier" (a student before it), "nobody".

    """

    name: str
    L: tuple[str, ...]
    R: tuple[str, ...] = ()
    lambda_: float = 0.0
    teacher: str = "network"


_SOFT = ("0.1 cross-entropy", "0.9 soft-targets:8")
WAYS = (
    Way(name=ALONE, L=("cross-entropy",), teacher="nobody"),
    Way(name="response: soft targets", L=_SOFT),
    Way(name="response: soft targets in two parts", L=("cross-entropy", "0.3 decoupled:4")),
    Way(name="response: outputs", L=("cross-entropy", "0.3 output-difference")),
    Way(name="feature: hints", L=("cross-entropy", f"10 hints:{_TAPS}")),
    Way(name="feature: attention", L=("cross-entropy", f"attention:{_TAPS}")),
    Way(name="feature: relational", L=("cross-entropy", "10 relational")),
    Way(name="self: the student's average", L=("cross-entropy", "soft-targets:2"), teacher="average"),
    Way(name="self: a student before it", L=("0.1 cross-entropy", "0.9 soft-targets:4"), teacher="earlier"),
    Way(name="generative: adversarial", L=("cross-entropy", "0.1 adversarial")),
    Way(name="generative: variational", L=("0.1 cross-entropy", "0.9 variational")),
    Way(name="regulariser: confidence", L=("cross-entropy",), R=("confidence",), lambda_=0.1, teacher="nobody"),
)


def _weighed(way: Way, *terms: str) -> tuple[Way, ...]:
    """The same way with other weights of its last term."""
    return tuple(replace(way, name=f"{way.name}, {term}", L=(*way.L[:-1], term)) for term in terms)


_OTHERS: Mapping[str, tuple[str, ...]] = {
    "response: soft targets": ("0.9 soft-targets:2", "0.9 soft-targets:4"),
    "response: soft targets in two parts": ("decoupled:4", "decoupled:2"),
    "response: outputs": ("output-difference", "3 output-difference"),
    "feature: hints": (f"0.1 hints:{_TAPS}", f"hints:{_TAPS}"),
    "feature: attention": (f"10 attention:{_TAPS}", f"100 attention:{_TAPS}"),
    "feature: relational": ("0.1 relational", "relational"),
    "self: the student's average": ("0.3 soft-targets:4", "soft-targets:4"),
    "self: a student before it": ("0.9 soft-targets:2", "0.9 soft-targets:8"),
    "generative: adversarial": ("adversarial", f"adversarial:{_TAPS.rpartition(',')[2]}"),
    "generative: variational": ("0.9 variational:11", "0.3 variational"),
}
CANDIDATES = (*WAYS, *(each for way in WAYS for each in _weighed(way, *_OTHERS.get(way.name, ()))))
"""Of which `WAYS` were chosen."""


def methods_part(common: Arguments) -> PartResult:
    """Trains what is not there yet, and judges all of it."""
    torch.set_num_threads(1)  # of networks as small as these, more are slower
    choosing = common.on == "train"
    work = _Work(EPOCHS_SHORT if common.short else EPOCHS, _CHOOSING if choosing else slice(LEARNED, None))
    folder = common.out / f"methods-{common.on}{'-short' if common.short else ''}"
    rows = []
    for way in CANDIDATES if choosing else WAYS:
        for seed in SEEDS_SHORT if common.short else SEEDS_CHOOSING if choosing else SEEDS:
            key = {"way": asdict(way), "seed": seed, "epochs": work.epochs}
            name = f"{''.join(one if one.isalnum() else '-' for one in way.name)}-{seed}"
            top1 = kept_by_key(folder, name, key, partial(work.top1, way, seed))
            rows.append(StudentRow(name=way.name, seed=seed, top1=top1))
        print(f"{way.name}: {mean(by_name(rows)[way.name]):.4f}", flush=True)
    teacher = work.judged(work.digits.teacher)
    return PartResult(
        figures={"teacher": teacher, "rows": [asdict(row) for row in rows]},
        checks=() if choosing or common.short else methods_checks(rows),
        tables=(_table(rows, teacher),),
    )


def methods_checks(rows: Sequence[StudentRow]) -> list[Check]:
    """Each way is held against labels alone: the low end of the paired interval over seeds."""
    by = by_name(rows)
    return [
        at_least(f"methods: {name} above {ALONE}, top-1 (95 %, {len(found)} seeds)", paired(found, by[ALONE])[0], 0.0)
        for name, found in by.items()
        if name != ALONE
    ]


class _Work:
    """The digits and the trainings; `judges` are the digits that accuracy is of."""

    def __init__(self, epochs: int, judges: slice) -> None:
        self.digits, self.epochs, self._judges = Digits(), epochs, judges

    def top1(self, way: Way, seed: int, folder: Path) -> float:
        """Of a student that was taught so."""
        objective = make_objective(way.L, way.R, way.lambda_)
        samples = LearningSamples(feeds={"image": self.digits.images[:_FEW]}, labels=self.digits.labels[:_FEW])
        # Only the last weights are looked at beside the first ones: the schedule has come to its end by then.
        training = TrainingSettings(epochs=self.epochs, batch_size=30, seed=seed, evaluate_every=self.epochs)
        options = DistillOptions(training=training, optimizer="sgd", rate=0.1, held_out=0.1)
        place = folder / "training"

        def begin() -> Network:
            return Network(module=self.digits.student(seed))

        if way.teacher == "earlier":
            last = born_again(begin, None, samples, objective, generations=2, folder=place, options=options)
            return self.judged(last.student.module)
        student = begin()
        teacher: Network | MovingAverage | None = None
        if way.teacher == "average":
            teacher = MovingAverage(decay=0.99)
        elif way.teacher == "network":
            teacher = Network(module=self.digits.teacher)
        distill(student, teacher, samples, objective, folder=place, options=options)
        return self.judged(student.module)

    def judged(self, module: nn.Module) -> float:
        """Part of right classes."""
        return self.digits.right(module, self._judges)


def _table(rows: Sequence[StudentRow], teacher: float) -> Table:
    by = by_name(rows)
    lines = [("nobody: it is the teacher", f"{teacher:.3f}", "", "")]
    for name, found in by.items():
        low, high = paired(found, by[ALONE])
        gain = "" if name == ALONE else f"{low:+.3f} to {high:+.3f}"
        lines.append((name, f"{mean(found):.3f}", f"{min(found):.3f}, {max(found):.3f}", gain))
    columns = ("who learns from 200 digits, and how", "right, mean", "from, to", "above labels alone (95 %)")
    return Table(title="Digits, with data", columns=columns, rows=tuple(lines))
