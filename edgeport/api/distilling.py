"""Students that learn from a trained model, with data and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    DistillStep,
    Limits,
    ModelSource,
    OnProgress,
    PruneStep,
    Scale,
    TensorSpec,
    WithoutDataStep,
    silent,
)
from edgeport.errors import ContractError, UsageError

if TYPE_CHECKING:
    from edgeport.pipeline.compression.reports import DistillReport, ImitateReport, WithoutDataReport

__all__ = [
    "distill",
    "distill_without_data",
    "imitate",
]

_LOOKS = 10
"""How often what learns to draw samples is looked at on the way."""


def distill(
    teacher: ModelSource,
    samples: Path | str,
    *,
    output: Path,
    student: ModelSource | None = None,
    prune: float | None = None,
    by: str = "l2",
    latency: str = "",
    speedup: float | None = None,
    scale: Mapping[str, Sequence[float]] | None = None,
    L: Sequence[str] = (),  # noqa: N803 (as the objective is written)
    R: Sequence[str] = (),  # noqa: N803
    lambda_: float = 1.0,
    generations: int = 1,
    epochs: int = 30,
    batch_size: int = 128,
    optimizer: str = "adamw",
    rate: float = 1e-3,
    weight_decay: float = 1e-4,
    augment: str = "",
    mixed: str = "fp32",
    average: float | None = None,
    clip_norm: float | None = None,
    patience: int | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    target: str = "",
    device: str = "auto",
    processes: int = 1,
    backend: str = "onnxruntime",
    threads: int | None = None,
    rounds: int = 6,
    duration_s: float = 0.3,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> DistillReport:
    """Distillation with data: a small student learns from the teacher, min E[L(f_s(x), y)] + lambda E[R(f_s(x))].

    The student's weights that were best on samples that are held out are written, and the course of the training beside
    them (`.metrics.jsonl`). A training that was stopped goes on where it was.

    Args:
        teacher: The trained model; one that is built from code.
        samples: To learn from: `.npz` (the labels are `target` in it), a folder, or `pkg.mod:fn`.
        output: `.safetensors`: the student's weights.
        student: Who learns: a model as it begins, with random weights or with some (what `prune` wrote, for one).
        prune: Instead: the share of the teacher's multiplications that goes; what is left learns.
        by: What goes first then; see `prune`.
        latency: "p50 <= 5 ms", and the teacher is pruned until it has it on this machine; or `scale` is chosen so.
        speedup: Instead: how many times as fast as the teacher.
        scale: An argument of the student's factory and the values to choose from: {"width": [8, 16, 32]}; the largest
            that is fast enough, by measuring.
        L: Task and teacher terms, each "WEIGHT NAME:SETTING"; by default, what suits the labels.
        R: Regularisers, spelled the same.
        lambda_: Factor of R.
        generations: Students, each but the first taught by the one before; the best is kept.
        epochs: Walks over the samples, of each.
        batch_size: Samples per step.
        optimizer: "adamw" or "sgd".
        rate: Learning rate at its highest.
        weight_decay: Of the optimizer.
        augment: "crop-flip", "crop-flip:2" (pixels), or `pkg.mod:fn` (feeds by name, as tensors, to feeds by name).
        mixed: Precision of the forward pass while training: "fp32", "bf16" or "fp16".
        average: Decay of the moving average of the weights; None for none.
        clip_norm: Largest norm of the gradient; None for any.
        patience: Epochs without better weights after which it stops; None: never.
        held_out: Part of the samples that says which weights are best, and is not trained on.
        seed: Of the order of the samples, and of that part.
        target: Key of the labels in the samples.
        device: That trains: "cpu", "cuda" or "auto".
        processes: That share each batch: one per GPU, or on the CPU any number; more than one need Lightning Fabric.
        backend: That times models, where a latency is asked.
        threads: Of the backend; None leaves its default.
        rounds: Pairs of fresh processes per measurement; fewer than 6 prove nothing.
        duration_s: Seconds of timed calls per process.
        store: As in `run`.
        on_progress: Told of every step.
        limits: Of each child; the one that trains may take a week.
        fresh: Begin anew, whatever an earlier call left.

    Raises:
        DistillationError: An objective that does not suit the student, the teacher or the samples.
        UsageError: No student, or two; settings that can't be; or another process is at this very training.
        SourceError, SamplesError: The models or the samples can't be used.
        TrainingError: It diverged.
        PruningError: The teacher can't be pruned so.
        DependencyError: Several processes, and Lightning Fabric is not installed.

    """
    from edgeport.exporter.distill.options import options_of
    from edgeport.pipeline.benchmarking.artifact import BenchSettings
    from edgeport.pipeline.compression.distill import Student, distill_source
    from edgeport.recipe.goals import median_ns

    goal_ns = median_ns(latency) if latency else None
    if scale and len(scale) > 1:
        raise UsageError(
            asked=f"choose {' and '.join(scale)} for a latency",
            found=f"{len(scale)} arguments",
            fix="give one, and let the factory make the others of it",
        )
    try:
        step = DistillStep(
            L=_spelled("L", L),
            R=_spelled("R", R),
            lambda_=lambda_,
            generations=generations,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,  # type: ignore[arg-type] # checked there
            rate=rate,
            weight_decay=weight_decay,
            augment=augment,
            mixed=mixed,  # type: ignore[arg-type] # checked there
            average=average,
            clip_norm=clip_norm,
            patience=patience,
            held_out=held_out,
            seed=seed,
            processes=processes,
        )
        options_of(step)  # what only the training looks at, before anything is measured
        pruned = None
        if prune is not None or (student is None and (goal_ns is not None or speedup is not None)):
            pruned = PruneStep(by=by, amount=prune, latency_ns=goal_ns, speedup=speedup)
        scaled = [Scale(argument=name, values=tuple(values)) for name, values in (scale or {}).items()]
        made = Student(
            source=student,
            prune=pruned,
            scale=scaled[0] if scaled else None,
            latency_ns=goal_ns,
            speedup=speedup,
        )
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
    settings = BenchSettings(backend=backend, threads=threads, rounds=rounds, duration_s=duration_s, limits=limits)
    return distill_source(
        teacher,
        made,
        samples,
        step,
        output=output,
        target=target,
        device=device,
        settings=settings,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def distill_without_data(
    teacher: ModelSource,
    student: ModelSource,
    inputs: TensorSpec,
    *,
    output: Path,
    method: str = "fast",
    values: Mapping[str, Any] | None = None,
    steps: int = 4000,
    L: Sequence[str] = (),  # noqa: N803 (as the objective is written)
    R: Sequence[str] = (),  # noqa: N803
    lambda_: float = 1.0,
    batch_size: int = 128,
    optimizer: str = "adamw",
    rate: float = 1e-3,
    weight_decay: float = 1e-4,
    mirror: bool = False,
    mixed: str = "fp32",
    average: float | None = None,
    seed: int = 0,
    judged: Path | None = None,
    target: str = "",
    made: Path | None = None,
    device: str = "auto",
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> WithoutDataReport:
    """A small student learns from a trained classifier without a sample: a generator makes what it is asked.

    A training that was stopped goes on where it was.

    Args:
        teacher: The trained model: a classifier with one float input, better with BatchNorm layers.
        student: Who learns: a model as it begins, with random weights or with some.
        inputs: What both take: a name and a size for every axis but the first, and the range of its values.
        output: `.safetensors`: the student's weights.
        method: "fast", "contrastive" or "dafl".
        values: Of the method, where they are not its own: {"inner": 5}; see `edgeport.exporter.distill.data_free`.
        steps: Of the student, the generator's warm-up among them.
        L: Teacher terms, each "WEIGHT NAME:SETTING"; "soft-targets:20" by default.
        R: Regularisers, spelled the same.
        lambda_: Factor of R.
        batch_size: Samples per step.
        optimizer: "adamw", or "sgd" with Nesterov's momentum, which convolutional networks like at a rate of 0.1.
        rate: Learning rate at its highest; it falls as a cosine.
        weight_decay: Of the optimizer.
        mirror: Left and right of an image mean the same, so that images may be mirrored.
        mixed: Precision of the forward pass: "fp32" or "bf16".
        average: Decay of the moving average of the weights, which are what is kept then; None for none.
        seed: Of everything drawn.
        judged: `.npz` of samples with labels that say how good the student is, ten times on the way; the best weights
            are kept. None where there are none: the last ones are kept.
        target: Key of the labels in it.
        made: `.npz` for up to 1024 of the samples that were made; calibration takes it, and says that they were made.
        device: "cpu", "cuda" or "auto".
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: Not going on with a training that was stopped.

    Raises:
        UsageError: No such method, or a model whose graph is fixed.
        ContractError: A value that the method does not have or can't take.
        DistillationError: A term that is none or needs labels; or a teacher that inputs can't be made for.
        SamplesError: An input without a size; or samples to judge by that do not fit.
        SourceError: A model that can't be loaded.
        TrainingError: It diverged.

    """
    from edgeport.pipeline.compression.data_free import DataFreeRequest
    from edgeport.pipeline.compression.data_free import distill_without_data as distilled

    step = WithoutDataStep(
        method=method,
        values=dict(values or {}),
        steps=steps,
        L=_spelled("L", L),
        R=_spelled("R", R),
        lambda_=lambda_,
        batch_size=batch_size,
        optimizer=optimizer,  # type: ignore[arg-type] # checked there
        rate=rate,
        weight_decay=weight_decay,
        mirror=mirror,
        mixed=mixed,  # type: ignore[arg-type] # checked there
        average=average,
        seed=seed,
    )
    request = DataFreeRequest(
        teacher=teacher, student=student, inputs=inputs, step=step, judged=judged, target=target, device=device
    )
    return distilled(
        request, output=output, made=made, store=store, on_progress=on_progress, limits=limits, fresh=fresh
    )


def imitate(
    samples: Path,
    *,
    output: Path,
    count: int = 5000,
    inputs: str = "",
    value_range: tuple[float, float] | None = None,
    epochs: int = 40,
    batch_size: int = 64,
    latent: int = 64,
    width: int = 32,
    rate: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> ImitateReport:
    """Draws samples that look like those given, by a variational autoencoder, for those who must not see the data.

    They can be distilled from (`distill`) and calibrated with. How much of the data they tell is not bounded: what was
    learned from ten samples looks like these ten.

    Args:
        samples: `.npz` with the inputs of a model.
        output: `.npz`, which says itself that its samples were made.
        count: Of the samples to draw.
        inputs: Name of the array; the only one of float32 by default.
        value_range: Of its values; by default, the smallest and the largest in the samples.
        epochs: Walks over the samples.
        batch_size: Samples per step.
        latent: Numbers of a code.
        width: Channels of the networks.
        rate: Learning rate of Adam.
        seed: Of everything drawn.
        device: "cpu", "cuda" or "auto".
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: Not going on with a training that was stopped.

    Raises:
        SamplesError: No such array, or fewer samples than a batch.
        TrainingError: It diverged.

    """
    from edgeport.contracts import to_jsonable
    from edgeport.exporter.distill.data_free.methods import VaeOptions
    from edgeport.exporter.train import TrainingSettings
    from edgeport.pipeline.compression.data_free import imitate as imitated

    looks = max(1, epochs // _LOOKS)
    training = TrainingSettings(epochs=epochs, batch_size=batch_size, seed=seed, evaluate_every=looks)
    options = VaeOptions(latent=latent, width=width, rate=rate, training=training)
    return imitated(
        samples,
        inputs,
        output=output,
        count=count,
        value_range=value_range,
        options=to_jsonable(options),
        device=device,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def _spelled(name: str, terms: Sequence[object]) -> tuple[str, ...]:
    """Terms as texts; a text alone would be taken for the letters in it.

    Raises:
        UsageError: They are none.

    """
    texts = tuple(one for one in terms if isinstance(one, str))
    if isinstance(terms, str) or len(texts) < len(terms):
        raise UsageError(
            asked=f"learn by {name} = {terms!r}",
            found="a text" if isinstance(terms, str) else "terms that are no texts",
            fix='give a list of texts, ["0.9 soft-targets:4"]; terms as objects are for edgeport.exporter.distill',
        )
    return texts
