"""Every way to teach with data, on scikit-learn's digits: a fourth of the teacher's width learns from few of them.

All students of a seed begin with the same weights, and see the same digits in the same order, as often. Weights of
terms are chosen on digits that the student does not learn from and nobody is judged by: `--part methods --on train`
goes through `CANDIDATES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import torch

from benchmarks.distillation.digit_networks import LEARNED, Digits
from benchmarks.distillation.trainings import kept_row
from benchmarks.pruning.checks import paired
from benchmarks.results import Arguments, Check, Part, Table, at_least

if TYPE_CHECKING:
    from torch import nn

    from edgeport.exporter.distill.options import DistillOptions
    from edgeport.exporter.train.samples import LearningSamples

__all__ = ["ALONE", "CANDIDATES", "WAYS", "TaughtDigits", "Way", "methods_checks", "methods_part"]

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
    return tuple(
        Way(name=f"{way.name}, {term}", L=(*way.L[:-1], term), teacher=way.teacher, R=way.R, lambda_=way.lambda_)
        for term in terms
    )


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


@dataclass(frozen=True, kw_only=True)
class TaughtDigits:
    """A student that was judged.

    Attributes:
        name: Of the way.
        seed: Of weights, order, and everything drawn.
        top1: Part of right classes, 0..1.

    """

    name: str
    seed: int
    top1: float


def methods_part(common: Arguments, judge: str) -> Part:
    """Trains what is not there yet, and judges all of it."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        print("methods: skipped, without scikit-learn")
        return Part(figures=[], checks=(at_least("methods: measured", 0.0, 1.0),))
    torch.set_num_threads(1)  # of networks as small as these, more are slower
    work = _Work(EPOCHS_SHORT if common.short else EPOCHS, judge)
    folder = common.out / f"methods-{judge}{'-short' if common.short else ''}"
    seeds = SEEDS_SHORT if common.short else SEEDS_CHOOSING if judge == "train" else SEEDS
    rows = []
    for way in CANDIDATES if judge == "train" else WAYS:
        for seed in seeds:
            key = {"way": asdict(way), "seed": seed, "epochs": work.epochs}
            name = f"{''.join(one if one.isalnum() else '-' for one in way.name)}-{seed}"
            rows.append(
                TaughtDigits(name=way.name, seed=seed, top1=kept_row(folder, name, key, partial(work.top1, way, seed)))
            )
        print(f"{way.name}: {mean(row.top1 for row in rows if row.name == way.name):.4f}", flush=True)
    teacher = work.judged(work.digits.teacher())
    checks = methods_checks(rows) if judge == "dev" and not common.short else []
    return Part(
        figures={"teacher": teacher, "rows": [asdict(row) for row in rows]},
        checks=tuple(checks),
        tables=(_table(rows, teacher),),
    )


def methods_checks(rows: Sequence[TaughtDigits]) -> list[Check]:
    """Each way is held against labels alone: the low end of the paired interval over seeds."""
    by = {way.name: [row.top1 for row in rows if row.name == way.name] for way in WAYS}
    return [
        at_least(f"methods: {name} above {ALONE}, top-1 (95 %, {len(found)} seeds)", paired(found, by[ALONE])[0], 0.0)
        for name, found in by.items()
        if name != ALONE
    ]


class _Work:
    """The digits and the trainings."""

    def __init__(self, epochs: int, judge: str) -> None:
        self.digits, self.epochs, self._judge = Digits(), epochs, judge

    def top1(self, way: Way, seed: int, folder: Path) -> float:
        """Of a student that was taught so."""
        from edgeport.exporter.distill.distilling import born_again, distill
        from edgeport.exporter.distill.loss_factory import make_objective
        from edgeport.exporter.distill.teacher_student import MovingAverage, Network

        objective = make_objective(way.L, way.R, way.lambda_)
        options, place = self._options(seed), folder / "training"
        if way.teacher == "earlier":
            made = born_again(
                lambda: Network(module=self.digits.student(seed)),
                None,
                self._samples(),
                objective,
                generations=2,
                folder=place,
                options=options,
            )
            return self.judged(made.student.module)
        student = Network(module=self.digits.student(seed))
        teacher: Network | MovingAverage | None = None
        if way.teacher == "average":
            teacher = MovingAverage(decay=0.99)
        elif way.teacher == "network":
            teacher = Network(module=self.digits.teacher())
        distill(student, teacher, self._samples(), objective, folder=place, options=options)
        return self.judged(student.module)

    def judged(self, module: nn.Module) -> float:
        """Part of right classes."""
        return self.digits.right(module, _CHOOSING if self._judge == "train" else slice(LEARNED, None))

    def _samples(self) -> LearningSamples:
        from edgeport.exporter.train.samples import LearningSamples

        return LearningSamples(feeds={"image": self.digits.images[:_FEW]}, labels=self.digits.labels[:_FEW])

    def _options(self, seed: int) -> DistillOptions:
        from edgeport.exporter.distill.options import DistillOptions
        from edgeport.exporter.train import TrainingSettings

        # Only the last weights are looked at beside the first ones: the schedule has come to its end by then.
        training = TrainingSettings(epochs=self.epochs, batch_size=30, seed=seed, evaluate_every=self.epochs)
        return DistillOptions(training=training, optimizer="sgd", rate=0.1, held_out=0.1)


def _table(rows: Sequence[TaughtDigits], teacher: float) -> Table:
    alone = [row.top1 for row in rows if row.name == ALONE]
    lines = [("nobody: it is the teacher", f"{teacher:.3f}", "", "")]
    for name in dict.fromkeys(row.name for row in rows):
        found = [row.top1 for row in rows if row.name == name]
        low, high = paired(found, alone)
        gain = "" if name == ALONE else f"{low:+.3f} to {high:+.3f}"
        lines.append((name, f"{mean(found):.3f}", f"{min(found):.3f}, {max(found):.3f}", gain))
    columns = ("who learns from 200 digits, and how", "right, mean", "from, to", "above labels alone (95 %)")
    return Table(title="Digits, with data", columns=columns, rows=tuple(lines))
