"""ResNet-18 of CIFAR-10 at half the latency of its best float: pruned and trained by a recipe as anyone would write it.

What is left of the network learns from 45,000 training images, cropped and mirrored by chance, what its unpruned self
says of them. Only floats are built: nothing is quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, run_recipe, write_recipe
from benchmarks.harness.cifar import Images, drawn, judged
from edgeport.contracts import Array, RunResult

LEARNED, LEARNED_SHORT = 45_000, 1_000
IMAGES, IMAGES_SHORT = 5_000, 500
EPOCHS, EPOCHS_SHORT = 6, 1
SPEEDUP = 2.0
ASKED = 2.1
"""What is asked of the pruning, so that the fastest way to run either network may differ."""
TOP1 = 0.915
RECIPE = """
model.source = "benchmarks.harness.networks:resnet18"

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


def twice_part(common: Arguments) -> PartResult:
    """Runs the recipe; it goes on where it was stopped."""
    folder = common.out.resolve() / f"twice{'-short' if common.short else ''}"
    result = run_recipe(_written(folder, short=common.short), folder / "store")
    rows = _rows(result)
    took = [step.seconds for step in result.compression if step.variant != "original"]
    figures = {"candidates": [asdict(row) for row in rows], "compression_s": sum(took)}
    return PartResult(figures=figures, checks=twice_checks(rows), tables=(_table(rows),))


def _written(folder: Path, *, short: bool) -> Path:
    """The recipe as it is now, beside its samples."""

    def scaled(draw: Callable[[], Images]) -> Mapping[str, Array]:
        images = draw().scaled("resnet18")
        return {"images": images.images, "label": images.labels}

    samples = {
        "training": partial(scaled, lambda: drawn(LEARNED_SHORT if short else LEARNED, 0)),
        "calibration": partial(scaled, lambda: drawn(256, 1)),
        "evaluation": partial(scaled, lambda: judged("dev", IMAGES_SHORT if short else IMAGES)),
    }
    epochs, rounds = (EPOCHS_SHORT, 6) if short else (EPOCHS, 12)
    return write_recipe(folder, "recipe.toml", RECIPE.format(asked=ASKED, epochs=epochs, rounds=rounds), samples)


def _rows(result: RunResult) -> list[TwiceRow]:
    rows, last = [], result.compression[-1].variant
    for one in result.candidates:
        interval = one.latency.quantiles[0].interval_ns if one.latency is not None else None
        if one.accuracy is None or interval is None:
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
