"""One recipe: CIFAR ResNet-18 is pruned, learns from the network that it was, and once more with the rounding of int8.

The recipe that is run is kept as `OUT/recipe-PART/resnet18.toml`, its result beside it. Hyperparameters are chosen on
training images that nobody learns from: `--part recipe --on train`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import Arguments, Check, PartResult, Table, at_least, run_recipe, write_recipe
from benchmarks.harness.cifar import SCALES, Images, judged, training
from edgeport.contracts import Array, RunResult

ASKED = 3.1
"""How many times as fast the pruning makes the float network: integers give 3.4 times more (of one with 30 % of the
multiplications left, 4.07x in float, 13.8x in int8)."""

TOP1, FASTER = 0.910, 10.0
"""What is claimed of what ships: of the dev file, and against the network as it was in float32, both in one thread."""

SIZES: Mapping[bool, Mapping[str, int]] = {
    False: {"training": 45_000, "evaluation": 5000, "epochs": 12, "qat_epochs": 1, "rounds": 20},
    True: {"training": 600, "evaluation": 300, "epochs": 1, "qat_epochs": 1, "rounds": 6},
}
"""By `--short`."""

_RECIPE = """\
[model]
source = "benchmarks.harness.networks:resnet18"

[inputs.images]
shape = ["batch", 3, 32, 32]
preprocess = {{ scale = "1/255", mean = {mean}, std = {std} }}

[data]
training = "training.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
target = "labels"
metric = "top1"

[[compress]]
method = "prune"
criterion = "taylor"
target = "{asked:g}x"
samples = 512
recalibrate = true

[[compress]]
method = "distill"
epochs = {epochs}
batch_size = 64
optimizer = "sgd"
rate = 0.02
weight_decay = 5e-4
augment = "crop-flip"
mixed = "bf16"
held_out = 0.02

[[compress]]
method = "qat"
epochs = {qat_epochs}
mixed = "bf16"
held_out = 0.02

[budget]
accuracy_drop = 0.02

[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]
threads = 1

[search]
rounds = {rounds}
time_limit_s = 3600
"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The network as it is, or after a step.

    Attributes:
        step: In a few words.
        shown_by: Candidate.
        top1: Accuracy of it, 0..1.
        p50_ns: Median of a call.
        speedup_low, speedup, speedup_high: Over the network as it was in float32, 95 %; 1 of that itself.
        size_bytes: Of its artifact.
        seconds: That the step took.
        ships: It is what the run chose.

    """

    step: str
    shown_by: str
    top1: float
    p50_ns: float
    speedup_low: float
    speedup: float
    speedup_high: float
    size_bytes: int
    seconds: float
    ships: bool


def recipe_part(common: Arguments) -> PartResult:
    """Writes the recipe and its samples, and runs it; what was finished is not done again."""
    out = common.out.resolve()
    folder = out / f"recipe-{common.on}{'-short' if common.short else ''}"
    result = run_recipe(_written(folder, common.on, SIZES[common.short]), out / "store")
    found = stages(result)
    checks = recipe_checks(found) if common.on == "dev" and not common.short else ()
    return PartResult(
        figures=[asdict(one) for one in found], checks=checks, tables=(_table(found, _best_float(result)),)
    )


def recipe_text(size: Mapping[str, int]) -> str:
    """The recipe, as a reader may take it."""
    mean, deviation = SCALES["resnet18"]
    return _RECIPE.format(mean=list(mean), std=list(deviation), asked=ASKED, **size)


def stages(result: RunResult) -> list[Stage]:
    """Of the run's rows, those that have numbers."""
    found = []
    for row in result.compression:
        if not row.candidate:
            print(f"recipe: {row.step} gave nothing: {row.problem}")
            continue
        shown = result.candidate(row.candidate)
        median = shown.latency.quantile(0.5).interval_ns if shown.latency is not None else None
        gain = row.against.speedup if row.against is not None else None
        found.append(
            Stage(
                step=row.step,
                shown_by=row.candidate,
                top1=shown.accuracy.value.estimate if shown.accuracy is not None else float("nan"),
                p50_ns=median.estimate if median is not None else float("nan"),
                speedup_low=gain.low if gain is not None else 1.0,
                speedup=gain.estimate if gain is not None else 1.0,
                speedup_high=gain.high if gain is not None else 1.0,
                size_bytes=shown.artifact.size_bytes if shown.artifact is not None else 0,
                seconds=row.seconds,
                ships=row.candidate == result.chosen,
            )
        )
    return found


def recipe_checks(found: Sequence[Stage]) -> list[Check]:
    """Of the step that ships: as accurate and as fast as is claimed. One that ships nothing of it holds neither."""
    shipped = next((one for one in found[1:] if one.ships), None)
    return [
        at_least("recipe: top-1 of what ships", shipped.top1 if shipped is not None else 0.0, TOP1),
        at_least(
            "recipe: p50 of the float32 network over that of what ships (95 %)",
            shipped.speedup_low if shipped is not None else 0.0,
            FASTER,
        ),
    ]


def _best_float(result: RunResult) -> str:
    """What ships beside the best float of the network as it was, in words."""
    against = result.candidate(result.chosen).against_float if result.chosen else None
    if against is None:
        return ""
    gain = against.speedup
    return (
        f"; {gain.estimate:.2f}x ({gain.low:.2f} to {gain.high:.2f}) the speed of the best float, {result.best_float}"
    )


def _written(folder: Path, on: str, size: Mapping[str, int]) -> Path:
    """With raw images, channels last, as the recipe's preprocessing takes them."""

    def raw(draw: Callable[[], Images]) -> Mapping[str, Array]:
        images = draw()
        return {"images": np.ascontiguousarray(images.images.transpose(0, 2, 3, 1)), "labels": images.labels}

    samples = {
        "training": partial(raw, partial(training, size["training"])),
        "calibration": partial(raw, partial(training, 256)),
        "evaluation": partial(raw, partial(judged, on, size["evaluation"])),
    }
    return write_recipe(folder, "resnet18.toml", recipe_text(size), samples)


def _table(found: Sequence[Stage], beside: str) -> Table:
    lines = [
        (
            one.step,
            one.shown_by + (" (ships)" if one.ships else ""),
            f"{one.top1:.4f}",
            f"{one.p50_ns / 1e6:.3f} ms",
            f"{one.speedup:.2f}x ({one.speedup_low:.2f} to {one.speedup_high:.2f})",
            f"{one.size_bytes / 1e6:.2f} MB",
            f"{one.seconds / 60:.1f} min",
        )
        for one in found
    ]
    return Table(
        title=f"CIFAR ResNet-18 by one recipe{beside}",
        columns=("after", "shown by", "top-1", "p50", "speed", "size", "took"),
        rows=tuple(lines),
    )
