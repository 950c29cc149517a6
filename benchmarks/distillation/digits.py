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
from typing import Any

import torch
from torch import nn

from benchmarks.distillation.digit_networks import LEARNED, Digits
from benchmarks.distillation.students import StudentRow, by_name
from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, kept_by_key, paired
from edgeport.contracts import Array, TensorSpec
from edgeport.exporter.distill.data_free.distilling import distill_without_data
from edgeport.exporter.distill.data_free.input_vae import learn_inputs
from edgeport.exporter.distill.data_free.methods import VaeOptions, method_named
from edgeport.exporter.distill.distilling import make_optimizer
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.objective import Objective
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.task import Distillation
from edgeport.exporter.distill.teacher_student import Network, Pair
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.sampler import ArrayBatches

SEEDS, SEEDS_SHORT = (0, 1, 2), (0,)
STEPS, STEPS_SHORT = 1000, 24
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


def digits_part(common: Arguments) -> PartResult:
    """Trains what is not there yet; nothing is chosen by it, so that there are no training images to judge on."""
    if common.on == "train":
        print("digits: skipped, for nothing is chosen by it")
        return PartResult(figures=[], checks=())
    torch.set_num_threads(1)  # of networks as small as these, more are slower
    folder = common.out / f"digits{'-short' if common.short else ''}"
    steps, epochs = (STEPS_SHORT, _EPOCHS_SHORT) if common.short else (STEPS, _EPOCHS)
    work = _Work(steps, epochs)
    rows = []
    for maker in ROWS:
        for seed in SEEDS_SHORT if common.short else SEEDS:
            key = {"maker": asdict(maker), "seed": seed, "steps": steps, "epochs": epochs}
            name = f"{maker.name.partition(',')[0].partition(':')[0].replace(' ', '-')}-{seed}"
            top1 = kept_by_key(folder, name, key, partial(work.top1, maker, seed))
            rows.append(StudentRow(name=maker.name, seed=seed, top1=top1))
            print(f"{maker.name}, seed {seed}: {top1:.4f}", flush=True)
    teacher = work.digits.right(work.digits.teacher)
    figures = {"teacher": teacher, "rows": [asdict(row) for row in rows]}
    return PartResult(
        figures=figures, checks=() if common.short else digits_checks(rows), tables=(_table(rows, teacher),)
    )


def digits_checks(rows: Sequence[StudentRow]) -> list[Check]:
    """What is claimed, from rows alone: the low end of the paired interval over seeds."""
    by = by_name(rows)
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
        self.digits = Digits()

    def top1(self, maker: Maker, seed: int, folder: Path) -> float:
        """Of a student that was taught so."""
        student = self.digits.student(seed)
        if maker.method in ("data", "vae"):
            images = self.digits.images[:LEARNED] if maker.method == "data" else self._drawn(maker, seed, folder)
            self._teach(student, images, seed, folder / "training")
        else:
            distill_without_data(
                Network(module=student),
                Network(module=self.digits.teacher),
                _SPEC,
                method_named(maker.method, maker.values, self._steps),
                steps=self._steps,
                folder=folder / "training",
                options=self._options(seed),
            )
        return self.digits.right(student)

    def _options(self, seed: int, epochs: int = 1) -> DistillOptions:
        training = TrainingSettings(epochs=epochs, batch_size=_BATCH, seed=seed, evaluate_every=epochs)
        return DistillOptions(training=training, optimizer="sgd", rate=0.1)

    def _teach(self, student: nn.Module, images: Array, seed: int, folder: Path) -> None:
        """Soft targets of given images, in as many steps as without data."""
        options = self._options(seed, max(1, round(self._steps / (len(images) // _BATCH))))
        pair = Pair(
            Network(module=student),
            Network(module=self.digits.teacher),
            Objective(L=(SoftTargets(temperature=20.0),)),
            {"image": torch.zeros(4, 1, 8, 8)},
            make_optimizer(options),
            seed=seed,
        )
        fit(Distillation(pair, None), ArrayBatches({"image": images}), options.training, folder)

    def _drawn(self, maker: Maker, seed: int, folder: Path) -> Array:
        """Twice as many as were seen."""
        training = TrainingSettings(epochs=self._epochs, batch_size=_BATCH, seed=seed)
        values: dict[str, Any] = dict(maker.values)
        options = VaeOptions(training=training, **values)
        vae = learn_inputs(self.digits.images[:LEARNED], _SPEC, folder / "vae", options)
        drawn: Array = vae.draw(2 * LEARNED, seed)
        return drawn


def _table(rows: Sequence[StudentRow], teacher: float) -> Table:
    lines = [("nobody: it is the teacher", f"{teacher:.3f}", "")]
    for name, found in by_name(rows).items():
        lines.append((name, f"{mean(found):.3f}", f"{min(found):.3f}, {max(found):.3f}"))
    columns = ("who makes what the student is asked", "right, mean", "from, to")
    return Table(title="Digits, without data", columns=columns, rows=tuple(lines))
