"""With data: WRN-40-2 teaches WRN-16-1 from random weights, against the same training without a teacher.

Hyperparameters are chosen on training images that nobody learns from: `--part with-data --on train` goes through
`CANDIDATES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.distillation.learn import spec_of
from benchmarks.distillation.students import StudentRow, by_name
from benchmarks.distillation.wide import teacher, yardstick
from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, kept_by_key, paired
from benchmarks.harness.cifar import Images, judged
from benchmarks.harness.judging import top1_of
from benchmarks.harness.training import quick_precision, trained

_TAPS = "layers.1=layers.5,layers.3=layers.11,layers.5=layers.17"
METHODS: Mapping[str, tuple[str, ...]] = {
    "no teacher": ("cross-entropy",),
    "response": ("0.1 cross-entropy", "0.9 soft-targets:4"),
    "feature": ("cross-entropy", f"10 attention:{_TAPS}"),
}
"""L of each row."""

CANDIDATES: Mapping[str, tuple[str, ...]] = {
    **METHODS,
    **{f"response, T = {heat}": ("0.1 cross-entropy", f"0.9 soft-targets:{heat}") for heat in (2, 8)},
    **{f"feature, weight {weight}": ("cross-entropy", f"{weight} attention:{_TAPS}") for weight in (2, 50)},
}
"""Of which `METHODS` were chosen."""

SEEDS, SEEDS_SHORT = (0, 1, 2), (0,)
IMAGES, IMAGES_SHORT = 5000, 300


def _size(*, short: bool) -> dict[str, int]:
    """Images and epochs: on one core all trainings take half an hour; with a GPU all images are used.

    A taught image takes 3.2 ms of a core there, 2.3 of them the teacher's, and one without a teacher 0.9.
    """
    if short:
        return {"samples": 600, "epochs": 2}
    return {"samples": 45_000, "epochs": 100} if torch.cuda.is_available() else {"samples": 5000, "epochs": 15}


def with_data_part(common: Arguments) -> PartResult:
    """Trains what is not there yet, and judges all of it."""
    out, choosing = common.out.resolve(), common.on == "train"
    count = IMAGES_SHORT if common.short else IMAGES
    images = judged(common.on, count)
    key = {"judged on": common.on, "judged": count}
    folder = out / f"images-{common.on}{'-short' if common.short else ''}"
    rows = [StudentRow(**one) for one in kept_by_key(folder, "given", key, lambda _: _given(images))]
    for seed in SEEDS_SHORT if common.short or choosing else SEEDS:
        for name, terms in (CANDIDATES if choosing else METHODS).items():
            spec = spec_of(
                subject="images",
                L=terms,
                taught=name != "no teacher",
                seed=seed,
                judge=common.on,
                judged=count,
                batch=64,
                optimizer="sgd",
                rate=0.05,
                weight_decay=5e-4,
                augment="crop-flip",
                precision=quick_precision(),
                **_size(short=common.short),
            )
            place = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            scores = np.load(trained("benchmarks.distillation.learn", place, spec) / "outputs.npy")
            top1 = float((scores.argmax(axis=1) == images.labels).mean())
            rows.append(StudentRow(name=name, seed=seed, top1=top1))
            print(f"{name}, seed {seed}: {top1:.4f}", flush=True)
    checks = () if choosing else with_data_checks(rows)
    return PartResult(figures=[asdict(row) for row in rows], checks=checks, tables=(_table(rows),))


def _given(images: Images) -> list[dict[str, Any]]:
    """The teacher, and the student of the same size that somebody trained on all the data."""
    floats = Images(images=images.floats(), labels=images.labels)
    networks = {"WRN-40-2, the teacher": teacher(), "WRN-16-1, ready made": yardstick()}
    return [{"name": name, "seed": None, "top1": top1_of(network, floats)} for name, network in networks.items()]


def with_data_checks(rows: Sequence[StudentRow]) -> list[Check]:
    """A teacher helps, in whatever way it teaches; the low end of the paired interval over seeds."""
    by, checks = by_name(rows), []
    alone = by["no teacher"]
    for name in METHODS:
        if name != "no teacher" and name in by:
            low, _ = paired(by[name], alone)
            checks.append(at_least(f"with data: {name} above no teacher, top-1 (95 %, {len(alone)} seeds)", low, 0.0))
    return checks


def _table(rows: Sequence[StudentRow]) -> Table:
    lines = [
        (name, f"{mean(values):.4f}", f"{min(values):.4f} to {max(values):.4f}")
        for name, values in by_name(rows).items()
    ]
    return Table(title="WRN-16-1 on CIFAR-10, with data", columns=("", "mean top-1", "over seeds"), rows=tuple(lines))
