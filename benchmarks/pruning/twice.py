"""ResNet-18 of CIFAR-10 at half the latency of its best float: pruned and trained by a recipe as anyone would write it.

What is left of the network learns from 45,000 training images, cropped and mirrored by chance, what its unpruned self
says of them. Only floats are built: nothing is quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pruning.data import Images, drawn, judged
from benchmarks.results import Arguments, Check, Part, Table, at_least
from benchmarks.zoo import missing

if TYPE_CHECKING:
    from edgeport.contracts import RunResult

__all__ = ["TwiceRow", "twice_checks", "twice_part"]

LEARNED, LEARNED_SHORT = 45_000, 1_000
IMAGES, IMAGES_SHORT = 5_000, 500
EPOCHS, EPOCHS_SHORT = 6, 1
SPEEDUP = 2.0
ASKED = 2.1
"""What is asked of the pruning, so that the fastest way to run either network may differ."""
TOP1 = 0.915
NETWORK = "resnet18"
RECIPE = """
model.source = "benchmarks.quantization.networks:resnet18"

[data]
training = "training.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
target = "label"

[[compress]]
method = "prune"
criterion = "taylor"
target = "{asked}x"
recalibrate = true
device = "cpu"

[[compress]]
method = "distill"
epochs = {epochs}
optimizer = "sgd"
rate = 0.02
weight_decay = 5e-4
augment = "crop-flip"
mixed = "bf16"
held_out = 0.02

[[target]]
backend = "onnxruntime"
precisions = ["fp32"]
threads = 1

[[target]]
backend = "openvino"
precisions = ["fp32"]
threads = 1

[budget]
accuracy_drop = 0.05

[search]
rounds = {rounds}
"""


@dataclass(frozen=True, kw_only=True)
class TwiceRow:
    """A float that was built.

    Attributes:
        name: Of the candidate.
        pruned: It is what the last step left.
        top1: Accuracy, 0..1.
        p50_ms: Its median.
        speedup: Over the best float of the unpruned model, with its 95 % interval; None for that one.

    """

    name: str
    pruned: bool
    top1: float
    p50_ms: float
    speedup: tuple[float, float, float] | None


def twice_part(common: Arguments) -> Part:
    """Runs the recipe; it goes on where it was stopped."""
    lacking = missing(("cifar10_train.npz", "cifar10_test_dev.npz", "models/cifar_resnet18.safetensors"))
    if lacking:
        print(f"twice: skipped, without {', '.join(lacking)}")
        return Part(figures=[], checks=(at_least("twice: measured", 0.0, 1.0),))
    from edgeport import api

    folder = common.out.resolve() / f"twice{'-short' if common.short else ''}"
    recipe = _written(folder, short=common.short)
    result = api.run(
        recipe,
        output=folder / "out",
        store=folder / "store",
        on_progress=lambda event: print(event.stage, event.done, event.total, event.message, flush=True),
    )
    rows = _rows(result)
    took = [step.seconds for step in result.compression if step.variant != "original"]
    figures = {"candidates": [asdict(row) for row in rows], "compression_s": sum(took)}
    return Part(figures=figures, checks=tuple(twice_checks(rows)), tables=(_table(rows),))


def _written(folder: Path, *, short: bool) -> Path:
    """The recipe as it is now, beside its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], Images]] = {
        "training": lambda: drawn(LEARNED_SHORT if short else LEARNED, 0, network=NETWORK),
        "calibration": lambda: drawn(256, 1, network=NETWORK),
        "evaluation": lambda: judged("dev", IMAGES_SHORT if short else IMAGES, network=NETWORK),
    }
    for name, made in parts.items():
        file = folder / f"{name}.npz"
        if not file.exists():
            part, whole = made(), file.with_suffix(".part.npz")
            np.savez(whole, images=part.images, label=part.labels)
            whole.replace(file)
    recipe = folder / "recipe.toml"
    epochs, rounds = (EPOCHS_SHORT, 6) if short else (EPOCHS, 12)
    recipe.write_text(RECIPE.format(asked=ASKED, epochs=epochs, rounds=rounds), encoding="utf-8")
    return recipe


def _rows(result: RunResult) -> list[TwiceRow]:
    rows, last = [], result.compression[-1].variant
    for one in result.candidates:
        if one.accuracy is None or one.latency is None:
            continue
        interval = one.latency.quantiles[0].interval_ns
        if interval is None:
            continue
        against = one.against_float.speedup if one.against_float is not None else None
        rows.append(
            TwiceRow(
                name=one.name,
                pruned=one.variant == last,
                top1=one.accuracy.value.estimate,
                p50_ms=interval.estimate / 1e6,
                speedup=None if against is None else (against.low, against.estimate, against.high),
            )
        )
    return rows


def twice_checks(rows: Sequence[TwiceRow]) -> list[Check]:
    """Of the fastest pruned network: its accuracy, and its speed at the end of the interval that counts against it."""
    pruned = [row for row in rows if row.pruned and row.speedup is not None]
    if not pruned:
        return [at_least("twice: a pruned network was measured", 0.0, 1.0)]
    best = max(pruned, key=lambda row: row.speedup or (0.0, 0.0, 0.0))
    low = best.speedup[0] if best.speedup is not None else 0.0
    return [
        at_least(f"{best.name}: top-1", best.top1, TOP1),
        at_least(f"{best.name}: speed over the best float (95 %)", low, SPEEDUP),
    ]


def _table(rows: Sequence[TwiceRow]) -> Table:
    return Table(
        title="ResNet-18, pruned and trained on",
        columns=("float", "top-1", "p50 ms", "speed over the best float"),
        rows=tuple(
            (
                row.name,
                f"{row.top1:.4f}",
                f"{row.p50_ms:.3f}",
                "" if row.speedup is None else f"{row.speedup[1]:.3f} ({row.speedup[0]:.3f} to {row.speedup[2]:.3f})",
            )
            for row in rows
        ),
    )
