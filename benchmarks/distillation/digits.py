"""Without data, small: a network for scikit-learn's digits teaches one of a fourth of its width, three times each.

Each student has weights of its own at random, and makes as many steps; what differs is who makes what it is asked. It
needs no folder of models. Generators have 16 channels, and their settings are the authors' but for size and steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.distillation.digit_networks import LEARNED, Digits
from benchmarks.distillation.trainings import kept_row
from benchmarks.pruning.checks import paired
from benchmarks.results import Arguments, Check, Part, Table, at_least
from edgeport.contracts import Array, TensorSpec

if TYPE_CHECKING:
    from edgeport.exporter.distill.options import DistillOptions
    from edgeport.exporter.distill.teacher_student import Pair

__all__ = ["ROWS", "DigitsRow", "Maker", "digits_checks", "digits_part"]

SEEDS, SEEDS_SHORT = (0, 1, 2), (0,)
STEPS, STEPS_SHORT = 1000, 12
_BATCH = 64
_EPOCHS, _EPOCHS_SHORT = 40, 1
_SPEC = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8), value_range=(0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Who makes what a student is asked.

    Attributes:
        name: In the table.
        method: A name of `METHODS`, "vae", or "data".
        values: Of the method.

    """

    name: str
    method: str
    values: Mapping[str, float]


_SMALL = {"width": 16, "latent": 64}
NOTHING = "a generator that learns nothing"
ROWS = (
    Maker(name="the data: soft targets of 1,000 real digits", method="data", values={}),
    Maker(name="a VAE that has seen these digits", method="vae", values={"width": 16, "latent": 16}),
    Maker(name="fast", method="fast", values={"width": 16, "batch": _BATCH}),
    Maker(name="dafl", method="dafl", values=_SMALL),
    Maker(name="contrastive, 50 inner steps", method="contrastive", values={**_SMALL, "inner": 50, "batch": _BATCH}),
    Maker(name=NOTHING, method="dafl", values={**_SMALL, "rate": 0.0}),
)


@dataclass(frozen=True, kw_only=True)
class DigitsRow:
    """A student that was judged.

    Attributes:
        name: Of who made what it was asked.
        seed: Of its weights and of everything drawn.
        top1: Of the digits that nobody learned from, 0..1.

    """

    name: str
    seed: int
    top1: float


def digits_part(common: Arguments, judge: str) -> Part:
    """Trains what is not there yet; nothing is chosen by it, so that there are no training images to judge on."""
    from importlib.util import find_spec

    if judge == "train" or find_spec("sklearn") is None:
        print("digits: skipped, " + ("for nothing is chosen by it" if judge == "train" else "without scikit-learn"))
        return Part(figures=[], checks=() if judge == "train" else (at_least("digits: measured", 0.0, 1.0),))
    torch.set_num_threads(1)  # of networks as small as these, more are slower
    folder = common.out / f"digits{'-short' if common.short else ''}"
    steps, epochs = (STEPS_SHORT, _EPOCHS_SHORT) if common.short else (STEPS, _EPOCHS)
    work = _Work(steps, epochs)
    rows = []
    for maker in ROWS:
        for seed in SEEDS_SHORT if common.short else SEEDS:
            key = {"maker": asdict(maker), "seed": seed, "steps": steps, "epochs": epochs}
            name = f"{maker.name.partition(',')[0].partition(':')[0].replace(' ', '-')}-{seed}"
            top1 = kept_row(folder, name, key, partial(work.top1, maker, seed))
            rows.append(DigitsRow(name=maker.name, seed=seed, top1=top1))
            print(f"{maker.name}, seed {seed}: {top1:.4f}", flush=True)
    teacher = work.teacher_top1()
    figures = {"teacher": teacher, "rows": [asdict(row) for row in rows]}
    checks = () if common.short else tuple(digits_checks(rows))
    return Part(figures=figures, checks=checks, tables=(_table(rows, teacher),))


def digits_checks(rows: Sequence[DigitsRow]) -> list[Check]:
    """What is claimed, from rows alone: the low end of the paired interval over seeds."""
    by = {name: [row.top1 for row in rows if row.name == name] for name in dict.fromkeys(row.name for row in rows)}
    found = []
    for maker in ROWS:
        if maker.method in ("data", "vae") or maker.name == NOTHING:
            continue
        low, _ = paired(by[maker.name], by[NOTHING])
        found.append(at_least(f"digits: {maker.name} above {NOTHING}, top-1 (95 %, {len(SEEDS)} seeds)", low, 0.0))
    return [*found, at_least("digits: fast less dafl, mean top-1", mean(by["fast"]) - mean(by["dafl"]), 0.0)]


class _Work:
    """The trainings."""

    def __init__(self, steps: int, epochs: int) -> None:
        self._steps, self._epochs = steps, epochs
        self._digits = Digits()

    def top1(self, maker: Maker, seed: int, folder: Path) -> float:
        """Of a student that was taught so."""
        from edgeport.exporter.distill.data_free.distilling import distill_without_data
        from edgeport.exporter.distill.data_free.methods import method_named
        from edgeport.exporter.distill.teacher_student import Network

        student = self._digits.student(seed)
        options = self._options(seed)
        if maker.method in ("data", "vae"):
            images = self._digits.images[:LEARNED] if maker.method == "data" else self._drawn(maker, seed, folder)
            self._teach(student, images, options, folder)
        else:
            distill_without_data(
                Network(module=student),
                Network(module=self._digits.teacher()),
                _SPEC,
                method_named(maker.method, maker.values, self._steps),
                steps=self._steps,
                folder=folder / "training",
                options=options,
            )
        return self._digits.right(student)

    def teacher_top1(self) -> float:
        """Of the network that teaches."""
        return self._digits.right(self._digits.teacher())

    def _options(self, seed: int, epochs: int = 1) -> DistillOptions:
        from edgeport.exporter.distill.options import DistillOptions
        from edgeport.exporter.train import TrainingSettings

        training = TrainingSettings(epochs=epochs, batch_size=_BATCH, seed=seed, evaluate_every=epochs)
        return DistillOptions(training=training, optimizer="sgd", rate=0.1)

    def _teach(self, student: nn.Module, images: Array, options: DistillOptions, folder: Path) -> None:
        """Soft targets of given images, in as many steps as without data."""
        from edgeport.exporter.distill.task import Distillation
        from edgeport.exporter.train.loop import fit
        from edgeport.exporter.train.sampler import ArrayBatches

        epochs = max(1, round(self._steps / (len(images) // _BATCH)))
        settings = self._options(options.training.seed, epochs).training
        fit(
            Distillation(self._pair(student, options), None),
            ArrayBatches({"image": images}),
            settings,
            folder / "training",
        )

    def _pair(self, student: nn.Module, options: DistillOptions) -> Pair:
        from edgeport.exporter.distill.distilling import make_optimizer
        from edgeport.exporter.distill.losses.response import SoftTargets
        from edgeport.exporter.distill.objective import Objective
        from edgeport.exporter.distill.teacher_student import Network, Pair

        return Pair(
            Network(module=student),
            Network(module=self._digits.teacher()),
            Objective(L=(SoftTargets(temperature=20.0),)),
            {"image": torch.zeros(4, 1, 8, 8)},
            make_optimizer(options),
            seed=options.training.seed,
        )

    def _drawn(self, maker: Maker, seed: int, folder: Path) -> Array:
        """Twice as many as were seen."""
        from edgeport.exporter.distill.data_free.input_vae import learn_inputs
        from edgeport.exporter.distill.data_free.methods import VaeOptions
        from edgeport.exporter.train import TrainingSettings

        training = TrainingSettings(epochs=self._epochs, batch_size=_BATCH, seed=seed)
        values: dict[str, Any] = dict(maker.values)
        vae = learn_inputs(
            self._digits.images[:LEARNED], _SPEC, folder / "vae", VaeOptions(training=training, **values)
        )
        drawn: Array = vae.draw(2 * LEARNED, seed)
        return drawn


def _table(rows: Sequence[DigitsRow], teacher: float) -> Table:
    lines = [("nobody: it is the teacher", f"{teacher:.3f}", "")]
    for maker in ROWS:
        found = [row.top1 for row in rows if row.name == maker.name]
        lines.append((maker.name, f"{mean(found):.3f}", f"{min(found):.3f}, {max(found):.3f}"))
    columns = ("who makes what the student is asked", "right, mean", "from, to")
    return Table(title="Digits, without data", columns=columns, rows=tuple(lines))
