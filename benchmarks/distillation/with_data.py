"""With data: WRN-40-2 teaches WRN-16-1 from random weights, against the same training without a teacher.

Hyperparameters are chosen on training images that nobody learns from: `--part with-data --on train` goes through
`CANDIDATES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.distillation.cifar import FILES, Cifar, Images
from benchmarks.distillation.trainings import kept_row, quick_precision, spec_of, trained
from benchmarks.pruning.checks import paired
from benchmarks.results import Arguments, Check, Part, Table, at_least
from benchmarks.zoo import missing

__all__ = ["CANDIDATES", "METHODS", "Row", "with_data_checks", "with_data_part"]

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
    import torch

    if short:
        return {"samples": 600, "epochs": 2}
    return {"samples": 45_000, "epochs": 100} if torch.cuda.is_available() else {"samples": 5000, "epochs": 15}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network that was judged.

    Attributes:
        name: Of the method, or of the network.
        seed: Of weights and order; None where nothing was trained here.
        top1: Accuracy, 0..1.

    """

    name: str
    seed: int | None
    top1: float


def with_data_part(common: Arguments, judge: str) -> Part:
    """Trains what is not there yet, and judges all of it."""
    lacking = missing(FILES)
    if lacking:
        print(f"with data: skipped, without {', '.join(lacking)}")
        return Part(figures=[], checks=(at_least("with data: measured", 0.0, 1.0),))
    out = common.out.resolve()
    count = IMAGES_SHORT if common.short else IMAGES
    images = Cifar(out).judged(judge, count)
    key = {"judged on": judge, "judged": count}
    folder = out / f"images-{judge}{'-short' if common.short else ''}"
    rows = [Row(**one) for one in kept_row(folder, "given", key, lambda _: _given(images))]
    for seed in SEEDS_SHORT if common.short or judge == "train" else SEEDS:
        for name, terms in (CANDIDATES if judge == "train" else METHODS).items():
            spec = spec_of(
                subject="images",
                images=str(out),
                L=terms,
                taught=name != "no teacher",
                seed=seed,
                judge=judge,
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
            scores = np.load(trained(place, spec) / "outputs.npy")
            rows.append(Row(name=name, seed=seed, top1=float((scores.argmax(axis=1) == images.labels).mean())))
            print(f"{name}, seed {seed}: {rows[-1].top1:.4f}", flush=True)
    checks = with_data_checks(rows) if judge == "dev" else []
    return Part(figures=[asdict(row) for row in rows], checks=tuple(checks), tables=(_table(rows),))


def _given(images: Images) -> list[dict[str, Any]]:
    """The teacher, and the student of the same size that somebody trained on all the data."""
    from benchmarks.distillation.subjects import outputs_of
    from benchmarks.distillation.wide import teacher, yardstick

    made = {"WRN-40-2, the teacher": teacher(), "WRN-16-1, ready made": yardstick()}
    rows = []
    for name, network in made.items():
        scores = outputs_of(network.eval(), {"images": images.floats()})
        top1 = float((scores.argmax(axis=1) == images.labels).mean())
        rows.append(asdict(Row(name=name, seed=None, top1=top1)))
    return rows


def with_data_checks(rows: list[Row]) -> list[Check]:
    """A teacher helps, in whatever way it teaches; the low end of the paired interval over seeds."""
    alone = [row.top1 for row in rows if row.name == "no teacher"]
    found = []
    for name in METHODS:
        taught = [row.top1 for row in rows if row.name == name]
        if name != "no teacher" and taught:
            low, _ = paired(taught, alone)
            found.append(at_least(f"with data: {name} above no teacher, top-1 (95 %, {len(alone)} seeds)", low, 0.0))
    return found


def _table(rows: list[Row]) -> Table:
    lines = []
    for name in dict.fromkeys(row.name for row in rows):
        values = [row.top1 for row in rows if row.name == name]
        lines.append((name, f"{mean(values):.4f}", f"{min(values):.4f} to {max(values):.4f}"))
    return Table(title="WRN-16-1 on CIFAR-10, with data", columns=("", "mean top-1", "over seeds"), rows=tuple(lines))
