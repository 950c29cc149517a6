"""How a student learns from a trained model: with data, and without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeport.options.declare import option
from edgeport.options.goals import GoalTiming
from edgeport.options.training import TrainingOptions, device_option

__all__ = ["METHODS", "DistillOptions", "DistillSettings", "WithoutDataOptions", "WithoutDataSettings"]


METHODS = ("fast", "contrastive", "dafl")
"""How inputs can be made without data."""


@dataclass(frozen=True, kw_only=True)
class _Objective:
    """min E[L(f_s(x), y)] + lambda E[R(f_s(x))], and how its least value is sought.

    Attributes:
        L: Task and teacher terms, each "WEIGHT NAME:SETTING" ("0.9 soft-targets:4"); empty for what suits the labels,
            or, without data, for "soft-targets:20".
        R: Regularisers, spelled the same ("confidence").
        lambda_: Factor of R.
        optimizer: "adamw", or "sgd" with Nesterov's momentum, which convolutional networks like at a rate of 0.1.
        rate: Learning rate at its highest; it falls as a cosine.

    """

    L: tuple[str, ...] = option(
        (),
        '"0.9 soft-targets:4", ... [default: by the labels].',
        flag="-L",
        metavar="TERM",
        recipe='task and teacher terms: ["0.1 cross-entropy", "0.9 soft-targets:4"]; by the labels',
    )
    R: tuple[str, ...] = option(
        (), 'Regulariser: "confidence", "activity".', flag="-R", metavar="TERM", recipe='regularisers: ["confidence"]'
    )
    lambda_: float = option(1.0, "Factor of R.", key="lambda", recipe="factor of R", within={"ge": 0, "le": 1e6})
    optimizer: Literal["adamw", "sgd"] = option("adamw", recipe="sgd has Nesterov's momentum")
    rate: float = option(1e-3, above=0, recipe="learning rate at its highest; it falls as a cosine", within={"le": 10})


@dataclass(frozen=True, kw_only=True)
class DistillSettings(_Objective, TrainingOptions):
    """How a student learns from samples.

    Attributes:
        generations: Students, each but the first taught by the one before (Furlanello et al., "Born Again Neural
            Networks", 2018); the best is kept.
        epochs: Walks over the samples, of each of them.
        augment: "crop-flip" or "crop-flip:4" (pixels) for images, `pkg.mod:fn` (feeds by name, as tensors, to feeds by
            name), or empty for none.

    """

    generations: int = option(
        1, "Each teaches the next.", least=1, recipe="students, each taught by the one before", within={"le": 100}
    )
    epochs: int = option(30, least=1, recipe="walks over the training samples, of each of them")
    batch_size: int = option(128, least=1, recipe="samples per step")
    weight_decay: float = option(1e-4, least=0, recipe="of the optimizer", within={"le": 1})
    augment: str = option(
        "",
        "crop-flip, crop-flip:2 (pixels), or pkg.mod:fn.",
        recipe="crop-flip, crop-flip:2 (pixels), or pkg.mod:fn, feeds by name to feeds by name",
    )


@dataclass(frozen=True, kw_only=True)
class DistillOptions(GoalTiming, DistillSettings):
    """Of `edgeport.api.distill`: who learns, where no student is given, and how.

    Attributes:
        prune: The share of the teacher's multiplications that goes; what is left learns.
        by: What goes first then; see `PruneOptions`.
        latency_ns: The teacher is pruned until it has this median on this machine; or `scale` is chosen so.
        speedup: Instead: how many times as fast as the teacher.
        scale: An argument of the student's factory and the values to choose from: {"width": (8, 16, 32)}; the largest
            that is fast enough, by measuring.
        device: That trains: "cpu", "cuda" or "auto".

    """

    prune: float | None = option(None, "Instead: SOURCE without this share of multiplications.", metavar="AMOUNT")
    by: str = option("l2", "What goes first; see edgeport prune.", metavar="CRITERION")
    latency_ns: float | None = option(
        None,
        "SOURCE is pruned, or --scale chosen, until it is met here.",
        flag="--latency",
        parse="median",
        metavar="5ms",
    )
    speedup: float | None = option(None, "Instead: how many times as fast as SOURCE.")
    scale: Mapping[str, tuple[float, ...]] = option(
        factory=dict,
        text="Argument of the student's factory to choose.",
        default_text="",
        parse="values",
        metavar="NAME=8,16,32",
    )
    device: str = device_option("That trains.")
    backend: str = option("onnxruntime", "That is timed, for a latency.")


@dataclass(frozen=True, kw_only=True)
class WithoutDataSettings(_Objective):
    """How a student learns of what a generator makes, by the same objective without labels.

    Attributes:
        method: One of `METHODS`; see `edgeport.exporter.distill.data_free.methods`.
        values: Of the method, where they are not its own: {"inner": 5}.
        steps: Of the student, the generator's warm-up among them.
        batch_size: Samples per step.
        weight_decay: Of the optimizer.
        mirror: Left and right of an image mean the same, so that images may be mirrored.
        mixed: Precision of the forward pass: "fp32" or "bf16".
        average: Decay of the moving average of the weights, which are what is kept then; None for none.
        seed: Of everything drawn.

    """

    method: str = "fast"
    values: Mapping[str, object] = option(
        factory=dict,
        text="Then: of the method, as inner=5.",
        flag="--value",
        parse="arguments",
        metavar="NAME=JSON",
        recipe="then: of the method: { inner = 5 }",
    )
    steps: int = option(4000, "Then: of the student.", least=1, recipe="then: of the student")
    batch_size: int = 128
    weight_decay: float = 1e-4
    mirror: bool = option(
        default=False,
        text="Then: left and right of an image mean the same.",
        recipe="then: left and right of an image mean the same",
    )
    mixed: Literal["fp32", "bf16"] = "fp32"
    average: float | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WithoutDataOptions(WithoutDataSettings):
    """Of `edgeport.api.distill_without_data`.

    Attributes:
        made: `.npz` for up to 1024 of the samples that were made; calibration takes it, and says that they were made.
        device: "cpu", "cuda" or "auto".

    """

    made: Path | None = option(
        None, "Then: .npz for samples that were made; calibration takes it.", flag="--keep", path="new"
    )
    device: str = "auto"
