"""WideResNet-40-2 teaches a WideResNet-16-1 with weights at random: by every generative method, on both sides.

Input side: the student sees no image, a generator makes them; of the VAE, the generator has seen images. Output side:
the student sees images, and a generator or a critic of the teacher's outputs stands beside the soft targets, or for
them. Each row is a training that goes on where it was stopped. Hyperparameters were chosen on training images that
nobody learns from (`--on train`); the ready-made WideResNet-16-1 is what students are compared with, and where none
begins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.distillation.wide import WideResNet, in_lines, student, teacher, yardstick
from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, at_most, cifar, kept_by_key, write
from benchmarks.harness.cifar import Images
from benchmarks.harness.judging import right_of
from benchmarks.harness.training import quick_precision
from edgeport.accuracy.intervals import paired_proportions
from edgeport.contracts import Array, Interval, TensorSpec, dump_json, load_json
from edgeport.exporter.distill.data_free.augmentation import Views
from edgeport.exporter.distill.data_free.input_vae import learn_inputs
from edgeport.exporter.distill.data_free.methods import METHODS, Method, VaeOptions, method_named
from edgeport.exporter.distill.data_free.synthesizers import synthesizer_of
from edgeport.exporter.distill.data_free.task import DataFreeDistillation, NoSamples
from edgeport.exporter.distill.distilling import make_optimizer
from edgeport.exporter.distill.learned_losses.adversarial import Adversarial
from edgeport.exporter.distill.learned_losses.terms import WithLearningTerms
from edgeport.exporter.distill.learned_losses.variational import Variational
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.losses.task import CrossEntropy
from edgeport.exporter.distill.objective import Objective, Term
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.task import Distillation
from edgeport.exporter.distill.teacher_student import Network, Pair
from edgeport.exporter.train import Schedule, TrainingSettings
from edgeport.exporter.train.distributed import this_process
from edgeport.exporter.train.loop import fit
from edgeport.exporter.train.samples import LABELS

WANTED, MINUTES = 0.84, 15.0
SEEDS = 3
_FEED = "images"
_FEW = 16_384
"""Images that a short training keeps; they are in each of its checkpoints."""

_TEN = {"inner": 10, "rate": 2e-3, "latent_rate": 0.01}
"""Fast's authors' values for ten inner steps, their best; they cost little beside 400 steps of the student."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long each row learns.

    Attributes:
        name: "long", "cpu" or "short".
        steps: Of the student, without data; those of `slow` methods are a quarter of it.
        epochs: With data.
        batch: Samples of a step.
        training: Images that are learned from with data.
        judged: Images that accuracy is of.
        seeds: With data.

    """

    name: str
    steps: int
    epochs: int
    batch: int
    training: int
    judged: int
    seeds: int


LONG = Length(name="long", steps=60_000, epochs=60, batch=256, training=45_000, judged=5000, seeds=SEEDS)
CPU = Length(name="cpu", steps=2000, epochs=6, batch=64, training=16_000, judged=2000, seeds=1)
SHORT = Length(name="short", steps=6, epochs=1, batch=16, training=64, judged=100, seeds=1)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to learn.

    Attributes:
        name: In the table.
        side: "inputs" or "outputs".
        by: A name of `METHODS`, "vae" or "images" for the inputs; for outputs, what stands in `terms_of`.
        slow: Of `Length.steps`, it does a quarter.

    """

    name: str
    side: str
    by: str
    slow: bool = False


ROWS = (
    Row(name="Fast", side="inputs", by="fast"),
    Row(name="contrastive inversion", side="inputs", by="contrastive", slow=True),
    Row(name="DAFL", side="inputs", by="dafl"),
    Row(name="VAE of the images", side="inputs", by="vae"),
    Row(name="labels alone", side="outputs", by="labels"),
    Row(name="soft targets", side="outputs", by="soft"),
    Row(name="soft targets and adversarial", side="outputs", by="adversarial"),
    Row(name="variational", side="outputs", by="variational"),
)


_RIVALS = {"inputs": "DAFL", "outputs": "labels alone"}
"""The row of a side that its others are held against, image by image, of the first seed."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What came of a row.

    Attributes:
        name, side: Of it.
        seed: Of the student's weights and of everything drawn.
        steps: Of the student.
        top1: Part of right classes.
        right: "1" or "0" for each image, in their order.
        seconds: Of the training, on `device`; of several runs together, where it was stopped.
        device: As PyTorch calls it.

    """

    name: str
    side: str
    seed: int
    steps: int
    top1: float
    right: str
    seconds: float
    device: str


def generative_part(arguments: Arguments) -> PartResult:
    """Trains what is not there yet, and says what came of it."""
    length = SHORT if arguments.short else LONG if torch.cuda.is_available() else CPU
    work = _Work(arguments.out / f"generative-{length.name}-{arguments.on}", length, arguments.on)
    found: list[Learned] = []
    for row in ROWS:
        for seed in range(length.seeds if row.side == "outputs" else 1):
            found.append(work.learned(row, seed))
            print(f"{row.name}, seed {seed}: top-1 {found[-1].top1:.4f}, {found[-1].seconds:.0f} s", flush=True)
    yardsticks = work.yardsticks()
    figures = {
        "length": asdict(length),
        "judged on": arguments.on,
        "rows": [asdict(one) for one in found],
        "yardsticks": yardsticks,
    }
    return PartResult(
        figures=figures, checks=generative_checks(found, length.name), tables=(_table(found, yardsticks, length),)
    )


class Clock:
    """Seconds that a training takes, in a file, so that a run that is killed counts too.

    Args:
        file: Gets them.

    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = load_json(float, file.read_bytes()) if file.exists() else 0.0
        self._began = time.perf_counter()
        self.seconds = self._before

    def tick(self) -> None:
        """Now."""
        self.seconds = self._before + time.perf_counter() - self._began
        write(self._file, dump_json(self.seconds))


@lru_cache(maxsize=1)
def _lesson(count: int) -> Images:
    """Images that are learned from, decoded once for all rows."""
    return cifar.training(count)


class _Work:
    """Where the trainings are, and what all of them share."""

    def __init__(self, folder: Path, length: Length, on: str) -> None:
        self._folder, self._length, self._on = folder, length, on
        self._hardware = this_process("auto")

    def learned(self, row: Row, seed: int) -> Learned:
        """Of a row; as it is kept, where it was finished."""
        key = {
            "row": asdict(row),
            "how": settings_of(row, self._length),
            "seed": seed,
            "length": asdict(self._length),
            "judged on": self._on,
        }
        name = f"{row.by}-{seed}"
        return Learned(**kept_by_key(self._folder, name, key, lambda place: self._learn(row, seed, place)))

    def _learn(self, row: Row, seed: int, folder: Path) -> dict[str, Any]:
        clock = Clock(folder / "seconds.json")
        network, steps = self._train(row, seed, folder, clock)
        clock.tick()
        right, cuda = self._right(network), self._hardware.device.type == "cuda"
        return {
            "name": row.name,
            "side": row.side,
            "seed": seed,
            "steps": steps,
            "top1": float(right.mean()),
            "right": "".join(str(int(one)) for one in right),
            "seconds": clock.seconds,
            "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        }

    def yardsticks(self) -> dict[str, float]:
        """Of the ready-made networks, on the same images."""

        def make(_: Path) -> dict[str, float]:
            networks = {"teacher": teacher(), "WideResNet-16-1, trained on the data": yardstick()}
            return {name: float(self._right(one).mean()) for name, one in networks.items()}

        key = {"judged on": self._on, "judged": self._length.judged}
        found: dict[str, float] = kept_by_key(self._folder, "yardsticks", key, make)
        return found

    def _train(self, row: Row, seed: int, folder: Path, clock: Clock) -> tuple[WideResNet, int]:
        network, settings = in_lines(student(seed)), self._settings(seed)
        options = DistillOptions(training=settings, optimizer="sgd", rate=0.1, weight_decay=1e-4)
        pair = Pair(
            Network(module=network),
            Network(module=in_lines(teacher())),
            Objective(L=terms_of(row.by)),
            {_FEED: torch.zeros(4, 3, 32, 32)},
            make_optimizer(options),
            seed=seed,
        )
        task, batches, settings = self._task(row, seed, folder, pair, settings)
        trained = fit(
            task, batches, settings, folder / "training", hardware=self._hardware, on_progress=lambda _: clock.tick()
        )
        return network.eval(), trained.steps

    def _settings(self, seed: int) -> TrainingSettings:
        return TrainingSettings(
            epochs=self._length.epochs,
            batch_size=self._length.batch,
            schedule=Schedule(warmup=0.02),
            precision=quick_precision(),
            average=0.999 if self._length is LONG else None,
            seed=seed,
            evaluate_every=self._length.epochs,
            checkpoint_every=2000 if self._length is LONG else 200,
        )

    def _task(
        self, row: Row, seed: int, folder: Path, pair: Pair, settings: TrainingSettings
    ) -> tuple[Any, Any, TrainingSettings]:
        """The task, its batches, and its settings: without data, epochs are no walks over it."""
        views = Views(shift=0.125, mirror=True)
        if row.by in METHODS:
            torch.manual_seed(seed)
            maker = synthesizer_of(_method_of(row, self._length), pair, image_spec(), views)
            batches = NoSamples(_steps_of(row, self._length) * self._length.batch)
            return DataFreeDistillation(pair, _FEED, maker), batches, replace(settings, epochs=1, evaluate_every=1)
        images = _lesson(self._length.training)
        if row.by == "vae":
            images = self._drawn(images, seed, folder)
        task: Any = Distillation(pair, None, lambda feeds: {_FEED: views(feeds[_FEED])})
        if row.side == "outputs":
            example = torch.from_numpy(images.rows(slice(256)).floats())
            task = WithLearningTerms(task, pair, {_FEED: example}, seed=seed)
        return task, _Batches(images), settings

    def _drawn(self, images: Images, seed: int, folder: Path) -> Images:
        """A transfer set of as many images; the student's side gets nothing else."""
        path = folder / "drawn.npy"
        if not path.exists():
            training = replace(self._settings(seed), average=None, precision="fp32")
            options = VaeOptions(latent=128, width=64, training=training)
            vae = learn_inputs(images.floats(), image_spec(), folder / "vae", options, hardware=self._hardware)
            drawn = vae.draw(len(images.labels), seed)
            np.save(path, (drawn * 255).round().clip(0, 255).astype(np.uint8))
        return Images(images=np.load(path), labels=np.zeros(len(images.labels), np.int64))

    def _right(self, network: WideResNet) -> Array:
        judged = cifar.judged(self._on, self._length.judged)
        floats = Images(images=judged.floats(), labels=judged.labels)
        return right_of(network.to(self._hardware.device).eval(), floats)


class _Batches:
    """Images as bytes, which become floats a batch at a time."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images.labels)

    def batch(self, rows: list[int]) -> Mapping[str, Any]:
        """These, with their labels."""
        chosen = self._images.rows(np.array(rows))
        return {_FEED: torch.from_numpy(chosen.floats()), LABELS: torch.from_numpy(chosen.labels)}


def image_spec() -> TensorSpec:
    """What the networks take."""
    return TensorSpec(name=_FEED, dtype="float32", shape=("batch", 3, 32, 32), value_range=(0.0, 1.0))


def _steps_of(row: Row, length: Length) -> int:
    return length.steps // 4 if row.slow else length.steps


def _method_of(row: Row, length: Length) -> Method:
    """As the authors have it; of a short training, with less to keep and batches more often."""
    method = method_named(row.by, _TEN if row.by == "fast" and length is LONG else None)
    if length is LONG or row.by == "dafl":
        return method
    steps = _steps_of(row, length)
    few: dict[str, Any] = {
        "memory": _FEW,
        "batch": length.batch,
        "cycle": max(2, steps // (40 if row.slow else 120)),
        "warm_up": 1 if row.slow else steps // 60,
    }
    few |= {"inner": 20 if length is CPU else 2} if row.slow else {}
    return replace(method, **few)


def settings_of(row: Row, length: Length) -> list[Any]:
    """What a row learns by: its terms, and the values of its method, where it has one."""
    terms = [repr(term) for term in terms_of(row.by)]
    return [terms, asdict(_method_of(row, length)) if row.by in METHODS else {}]


def terms_of(by: str) -> tuple[Term, ...]:
    """What the student of a row learns from; temperatures as Fast's authors have them for this pair."""
    if by == "labels":
        return (CrossEntropy(),)
    if by == "variational":
        return (CrossEntropy(weight=0.1), Variational(weight=0.9))
    taught: tuple[Term, ...] = (CrossEntropy(weight=0.1), SoftTargets(weight=0.9, temperature=4.0))
    if by == "soft":
        return taught
    if by == "adversarial":
        return (*taught, Adversarial(weight=0.1))
    return (SoftTargets(temperature=20.0),)


def generative_checks(rows: Sequence[Learned], length: str) -> list[Check]:
    """What is claimed, from rows alone; what is claimed of a GPU falls short where there was none."""
    by_name = {row.name: row for row in rows if row.seed == 0}
    fast = by_name["Fast"]
    if length == "short":
        return []
    ahead = less(fast, by_name["DAFL"])
    checks = [at_least("generative: Fast less DAFL, top-1 (95 %, over images)", ahead.low, 0.0)]
    if length != "long":
        return [*checks, at_least("generative: measured on a GPU", 0.0, 1.0)]
    return [
        *checks,
        # Of one method, which is named before: the best of several would be chosen by the images that judge it.
        at_least("generative: Fast, without one real image, top-1", fast.top1, WANTED),
        at_most("generative: Fast, minutes", fast.seconds / 60, MINUTES),
    ]


def less(first: Learned, second: Learned) -> Interval:
    """Top-1 of the first less that of the second; both were judged by the same images."""
    pairs = list(zip(first.right, second.right, strict=True))
    return paired_proportions(pairs.count(("1", "0")), pairs.count(("0", "1")), len(pairs))


def _table(rows: Sequence[Learned], yardsticks: Mapping[str, float], length: Length) -> Table:
    lines = [(name, "", "", f"{top1:.4f}", "", "") for name, top1 in yardsticks.items()]
    first = {one.name: one for one in rows if one.seed == 0}
    for row in ROWS:
        found = [one for one in rows if one.name == row.name]
        rival = _RIVALS[row.side]
        ahead = less(found[0], first[rival])
        lines.append(
            (
                row.name,
                row.side,
                str(found[0].steps),
                ", ".join(f"{one.top1:.4f}" for one in found),
                "" if row.name == rival else f"{ahead.low:+.3f} to {ahead.high:+.3f}",
                f"{np.mean([one.seconds for one in found]):.0f}",
            )
        )
    return Table(
        title=f"WideResNet-40-2 to WideResNet-16-1, {length.name}",
        columns=("method", "side", "steps", "top-1", "less DAFL, or labels alone (95 %)", "seconds"),
        rows=tuple(lines),
    )
