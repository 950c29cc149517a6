"""Smaller models of the same code: pruning, and training with rounding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    FineTuning,
    Limits,
    ModelSource,
    OnProgress,
    PruneStep,
    silent,
)
from edgeport.errors import ContractError, UsageError

if TYPE_CHECKING:
    from edgeport.pipeline.compression.reports import PruneReport, QatReport

__all__ = [
    "prune",
    "qat",
]


def prune(
    source: ModelSource,
    samples: Path,
    *,
    output: Path,
    what: str = "units",
    by: str = "l2",
    amount: float | None = None,
    latency: str = "",
    speedup: float | None = None,
    schedule: str = "one-shot",
    scope: str = "global",
    round_to: int = 8,
    least: float = 0.1,
    count: int = 256,
    recalibrate: bool = False,
    fine_tune: str = "",
    training: FineTuning | None = None,
    epochs_between: int = 1,
    target: str = "",
    device: str = "auto",
    backend: str = "onnxruntime",
    threads: int | None = None,
    rounds: int = 6,
    duration_s: float = 0.3,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
) -> PruneReport:
    """Takes out of a PyTorch model what it can do without, in child processes, and keeps what is left.

    Where a latency or a speedup is asked, the exported float model is timed on this machine, again and again with other
    channels gone, until the goal is met; what comes out is compared with the unpruned model in fresh pairs, fails where
    the goal is not met by these, and is not kept where it is not surely faster. A training that was stopped goes on
    where it was, with the network that such a search had found. Its course lies beside the output.

    Args:
        source: The model; one that is built from code.
        samples: `.npz` with two samples or more of every input.
        output: `.safetensors`, which is loaded as the weights of the same source, or `.pt2`, which needs no code.
        what: "units" (channels, neurons and heads), one kind of them, "weights", "2:4", "4:8" or "blocks".
        by: What goes first by: "l2", "l1", "near-zero:0.1", "batchnorm-scale", "zero-activations", "entropy:lowest",
            "taylor", "fisher", "hessian:8", "random:0"; blocks go by their influence.
        amount: Of units, the share of the multiplications that goes; of weights, the share that becomes zero; of
            blocks, how many.
        latency: Instead: "p50 <= 5 ms".
        speedup: Instead: such as 2.0.
        schedule: "one-shot", or of units and weights with an amount "iterative:5" or "gradual:10".
        scope: Whether the units of all layers compete ("global"), or those of each ("layer", not for a latency).
        round_to: Channels that are left are a multiple of this; for a latency, of twice as many if the target is seen
            to compute so many at once.
        least: Share of each layer that stays.
        count: Samples that are looked at.
        recalibrate: Take BatchNorm's statistics anew over the samples after each step; for samples of real data.
        fine_tune: `pkg.mod:fn` beside the model, called with the module and the number of the step after each.
        training: Instead: how it is trained on all samples after the last step, with labels where `target` names them;
            None for no training.
        epochs_between: Walks over the samples after each of the schedule's other steps.
        target: Key of the labels in the samples, for criteria that need a loss and for the training.
        device: That trains: "cpu", "cuda" or "auto".
        backend: That times the model.
        threads: Of the backend; None leaves its default.
        rounds: Pairs of fresh processes per measurement; fewer than 6 prove nothing.
        duration_s: Seconds of timed calls per process.
        store: As in `run`; of trainings that were stopped.
        on_progress: Told of every step.
        limits: Of each child.
        fresh: Begin a training that was stopped anew.

    Raises:
        PruningError: Nothing can be removed, or not so much, or the criterion has no answer.
        SourceError, SamplesError: The model or the samples can't be used.
        TrainingError: A training diverged.
        UsageError: No goal, or two of them.

    """
    from edgeport.pipeline.benchmarking.artifact import BenchSettings
    from edgeport.pipeline.compression.prune import prune_source
    from edgeport.recipe.goals import median_ns

    try:
        step = PruneStep(
            what=what,
            by=by,
            amount=amount,
            latency_ns=median_ns(latency) if latency else None,
            speedup=speedup,
            schedule=schedule,
            scope=scope,
            round_to=round_to,
            least=least,
            samples=count,
            recalibrate=recalibrate,
            fine_tune=fine_tune,
            training=training,
            epochs_between=epochs_between,
            device=device,
        )
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
    settings = BenchSettings(backend=backend, threads=threads, rounds=rounds, duration_s=duration_s, limits=limits)
    return prune_source(
        source,
        samples,
        step,
        output=output,
        target=target,
        settings=settings,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )


def qat(
    recipe: Path,
    *,
    output: Path | None = None,
    backend: str = "",
    precision: str = "int8",
    samples: Path | str | None = None,
    epochs: int = 3,
    batch_size: int = 64,
    rate: float | None = None,
    loss: str = "auto",
    teacher: float | None = None,
    mixed: str = "fp32",
    average: float | None = 0.99,
    patience: int | None = None,
    seed: int = 0,
    device: str = "auto",
    processes: int = 1,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
) -> QatReport:
    """Quantization-aware training: the model learns with the rounding of one target's plan, from its ranges on.

    The output folder gets `model.onnx` (float, with the learned weights), `plan.json` (which quantizes it to what was
    trained), `best/` (the artifact) and `metrics.jsonl`. The result is judged on the evaluation set and timed beside
    every float of its runtime; `chosen` says what should ship. A training that was stopped goes on where it was.

    Args:
        recipe: A TOML file with a PyTorch model.
        output: A new folder, or one of an earlier training; `edgeport-qat` beside the recipe by default.
        backend: Of the target; the recipe's first by default.
        precision: "int8", or one of weights alone ("int4-weights-32", ...).
        samples: To learn from: `.npz` (the labels are the recipe's `target` in it), a folder, or `pkg.mod:fn`, from
            which ranges come too; by default the recipe's training samples, or where it has none its calibration
            samples.
        epochs: Walks over the samples; a tenth of them is held out and says which weights are best.
        batch_size: Samples per step.
        rate: Highest learning rate, of AdamW; 2e-5 by default, and 3e-4 for weights of 4 bits.
        loss: "cross-entropy", "mse", `pkg.mod:fn` (outputs by name and labels to a loss []), "teacher" (the float model
            alone), or "auto": by what the labels are.
        teacher: Weight of the float model's outputs beside the labels, 0..1; where the loss is "auto", 1 by default of
            8 bits, else 0.5.
        mixed: Precision of the forward pass while training: "fp32", "bf16" or "fp16".
        average: Decay of the moving average of the weights; None for none.
        patience: Epochs without better weights after which it stops; None: never.
        seed: Of the order of the samples.
        device: "cpu", "cuda" or "auto".
        processes: That share each batch: one per GPU, or on the CPU any number; more than one need Lightning Fabric.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: As in `run`.

    Raises:
        UsageError: No such target or precision; or a model that can't be trained (ONNX, with a state).
        SamplesError: Too few samples, or labels that do not fit the loss.
        TrainingError: It diverged.
        PlanError: Nothing of the plan is in the PyTorch graph.
        DependencyError: Several processes, and Lightning Fabric is not installed.
        OutputError: Something else is in the output's place.
        EdgeportError: The model or the data can't be used.

    """
    from edgeport.exporter.qat.options import QatOptions, default_rate, default_teacher
    from edgeport.exporter.train.settings import TrainingSettings
    from edgeport.pipeline.compression.qat import qat_recipe
    from edgeport.pipeline.quantization.planning import precision_named
    from edgeport.recipe import load_recipe

    chosen = precision_named(f"train in {precision!r}", precision)
    try:
        training = TrainingSettings(
            epochs=epochs,
            batch_size=batch_size,
            precision=mixed,  # type: ignore[arg-type] # checked there
            average=average,
            patience=patience,
            seed=seed,
        )
        options = QatOptions(
            training=training,
            rate=rate or default_rate(chosen),
            loss=loss,
            teacher=teacher if teacher is not None else default_teacher(chosen, loss),
            processes=processes,
        )
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error
    return qat_recipe(
        load_recipe(recipe),
        output=output if output is not None else recipe.parent / "edgeport-qat",
        backend=backend,
        precision=chosen,
        samples=samples,
        options=options,
        device=device,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
    )
