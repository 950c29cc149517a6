"""The Python API: each step of the way as a function, and the whole way. The command line calls these.

Heavy packages load inside the functions; models from outside are parsed and run in child processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    Artifact,
    Calibration,
    DeviceFacts,
    DeviceProbe,
    DistillStep,
    ExecutionConfig,
    FineTuning,
    Limits,
    MaintainedDevice,
    ModelSource,
    OnnxModel,
    OnProgress,
    PruneStep,
    RunResult,
    TensorSpec,
    Verification,
    silent,
)
from edgeport.errors import ContractError, EdgeportError, UsageError

if TYPE_CHECKING:
    from edgeport.bundle import Reproduced
    from edgeport.devices.profiles import Profile
    from edgeport.drafting import Draft
    from edgeport.pipeline.bench import BenchResult
    from edgeport.pipeline.comparing import CompareResult
    from edgeport.pipeline.distilling import DistillReport
    from edgeport.pipeline.dry_run import DryRun
    from edgeport.pipeline.execution_tuning import ExecutionTuned
    from edgeport.pipeline.learning import QatReport
    from edgeport.pipeline.pruning import PruneReport
    from edgeport.pipeline.scheduling import ScheduleResult
    from edgeport.pipeline.soaking import SoakResult
    from edgeport.pipeline.tuning_alone import TuneResult
    from edgeport.pipeline.without_data import ImitateReport, WithoutDataReport
    from edgeport.recipe.bounds import Bound

__all__ = [
    "BundleCheck",
    "ExportReport",
    "add_device",
    "bench",
    "calibrate",
    "clean_device",
    "compare",
    "device_profiles",
    "distill",
    "distill_without_data",
    "dry_run",
    "export",
    "imitate",
    "init",
    "list_devices",
    "prepare_device",
    "probe_device",
    "prune",
    "qat",
    "quantize",
    "quickstart",
    "remove_device",
    "run",
    "schedule",
    "soak",
    "tune",
    "tune_execution",
    "verify",
    "verify_bundle",
]

DEFAULT_LIMITS = Limits()
_LOOKS = 10
"""How often what learns without data is judged on the way."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """An exported model.

    Attributes:
        model: The ONNX file.
        notes: What a reader must know, one sentence each.

    """

    model: OnnxModel
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BundleCheck:
    """What a bundle is found to be.

    Attributes:
        problems: Everything that is wrong with its files, a sentence each.
        identity: SHA-256 of its manifest: equal for equal input; empty where there is none.
        reproduced: What became of running its sample; None where that was not tried.

    """

    problems: tuple[str, ...]
    identity: str
    reproduced: Reproduced | None = None


def run(
    recipe: Path,
    *,
    output: Path | None = None,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
    require_placement: float | None = None,
) -> RunResult:
    """Walks the whole way of a recipe: export, verify, calibrate, compile, validate, time, choose, bundle, report.

    Args:
        recipe: A TOML file (docs/reference/recipe.md).
        output: Folder for bundle, report and result; `edgeport-out` beside the recipe by default. Where targets are
            named, each has its bundle and report in a folder of its name, and the result one per name (`targets`).
        store: Folder of finished steps; the user's cache folder by default.
        on_progress: Told of every step, with the time left.
        limits: Of each child process; what the recipe's [search] says, if None.
        fresh: Do everything anew; what earlier runs finished is replaced in the store.
        device: Of `list_devices`; where artifacts are validated and timed. Its processor must be of this machine's
            architecture, for which plans are made.
        require_placement: Part of the planned nodes that must run as planned, 0..1, else a candidate is refused; in
            place of what the targets say.

    Raises:
        RecipeError: The recipe is not one.
        EdgeportError: The model or the data can't be used.
        DeviceLost: The device stopped answering; the same call goes on from what was finished.

    """
    from edgeport.pipeline import run_recipe
    from edgeport.recipe import load_recipe

    target = output if output is not None else recipe.parent / "edgeport-out"
    asked = load_recipe(recipe)
    if require_placement is not None:
        targets = tuple(replace(one, least_placement=require_placement) for one in asked.targets)
        asked = replace(asked, targets=targets)
    within = limits if limits is not None else asked.search.limits
    return run_recipe(
        asked, output=target, store=store, on_progress=on_progress, limits=within, fresh=fresh, device=device
    )


def dry_run(
    recipe: Path, *, store: Path | None = None, on_progress: OnProgress = silent, limits: Limits | None = None
) -> DryRun:
    """What `run` would do, step by step: what the store answers, and how long the rest may take. Nothing is written.

    Backends are asked what they can do, and functions that give samples are called, as in every run.

    Args:
        recipe: As in `run`.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`.

    Raises:
        RecipeError: The recipe is not one.
        EdgeportError: What is known before any work can't be used.

    """
    from edgeport.pipeline.dry_run import rehearse
    from edgeport.recipe import load_recipe

    return rehearse(load_recipe(recipe), store=store, on_progress=on_progress, limits=limits)


def quickstart(
    output: Path, *, store: Path | None = None, on_progress: OnProgress = silent, limits: Limits | None = None
) -> RunResult:
    """Trains a small network on scikit-learn's digits and takes it the whole way.

    Args:
        output: Folder that gets the model, its data, a recipe, and the recipe's output in `edgeport-out`.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`.

    Raises:
        DependencyError: The extra `quickstart` is not installed.

    """
    from edgeport.digits import prepare

    return run(prepare(output, on_progress), store=store, on_progress=on_progress, limits=limits)


def init(
    model: str,
    *,
    recipe: Path = Path("edgeport.toml"),
    arguments: Mapping[str, object] | None = None,
    weights: Path | None = None,
    allow_pickle_sha256: str | None = None,
    inputs: Sequence[str] = (),
    samples: str = "",
    calibration: str = "",
    evaluation: str = "",
    target: str = "",
    metric: str = "",
    backends: Sequence[str] = (),
    accuracy_drop: float | None = None,
    latency: str = "",
    quick: bool = False,
    force: bool = False,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Draft:
    """Looks at a model, tries to export it, and writes a short recipe that `run` takes.

    Where no samples are given, a module with random ones is written beside the recipe and named after it
    (`edgeport_samples.py` for `edgeport.toml`).

    Args:
        model: As a recipe's [model] source; "net.py:create" and a folder of transformers are understood too.
        recipe: The file to write.
        arguments: Of the factory.
        weights: A `.safetensors` file or a safe checkpoint.
        allow_pickle_sha256: As in a recipe.
        inputs: "NAME=batch,3,224,224" or "NAME=batch,time:int64", one per input; found where not given.
        samples: A `.npz`, `.npy`, `.csv` or folder to be split into calibration and evaluation; or a function.
        calibration: Samples that int8 ranges come from, instead.
        evaluation: Samples that candidates are judged on.
        target: Key of the labels.
        metric: Its name, or `pkg.mod:fn`.
        backends: Those that can run here by default.
        accuracy_drop: Of the budget; what the samples can prove by default.
        latency: Of the budget.
        quick: Few and short measurements.
        force: Replace files that are there.
        on_progress: Told of every step.
        limits: Of each child.

    Raises:
        OutputError: A file is there already.
        EdgeportError: The model can't be loaded, run or exported, or the samples do not fit it.

    """
    from edgeport.drafting import Asked, draft_recipe

    asked = Asked(
        model=model,
        recipe=recipe,
        arguments=arguments or {},
        weights=weights,
        allow_pickle_sha256=allow_pickle_sha256,
        inputs=tuple(inputs),
        samples=samples,
        calibration=calibration,
        evaluation=evaluation,
        target=target,
        metric=metric,
        backends=tuple(backends),
        accuracy_drop=accuracy_drop,
        latency=latency,
        quick=quick,
        force=force,
    )
    return draft_recipe(asked, on_progress=on_progress, limits=limits)


def export(
    source: ModelSource,
    *,
    example: Path | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: str = "",
    output: Path,
    options: Mapping[str, Any] | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> ExportReport:
    """Exports a PyTorch model to ONNX, in a child process.

    Args:
        source: The model.
        example: `.npz` with samples of every input; the arrays' names are the inputs' names. Two of them are traced;
            without a free batch (`dynamic_batch=False` in `options`) all of them, and their number is the batch.
        input_shapes: Instead: shape of each float32 input, batch first; values are drawn at random.
        target: Key of the labels in the `.npz`, which are no input; empty where there are none.
        output: The `.onnx` file.
        options: Fields of `edgeport.exporter.options.ExportOptions`.
        on_progress: Told of every step.
        limits: Of the child.

    Raises:
        ExportError: PyTorch could not export it; names the line of the model.
        SourceError: The model could not be loaded.
        UsageError: Neither an example nor shapes.

    """
    from edgeport.pipeline.steps import export_source

    given = example if example is not None else input_shapes
    if not given:
        raise UsageError(
            asked="export a model",
            found="neither an example nor input shapes",
            fix="give --example samples.npz, or --input NAME=1,3,224,224",
        )
    model, notes = export_source(
        source, given, output, options or {}, target=target, on_progress=on_progress, limits=limits
    )
    return ExportReport(model=model, notes=notes)


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
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> PruneReport:
    """Takes out of a PyTorch model what it can do without, in child processes, and keeps what is left.

    Where a latency or a speedup is asked, the exported float model is timed on this machine, again and again with other
    channels gone, until the goal is met; what comes out is compared with the unpruned model in fresh pairs, and not
    kept where it is not surely faster.

    Args:
        source: The model; one that is built from code.
        samples: `.npz` with two samples or more of every input.
        output: `.safetensors`, which is loaded as the weights of the same source, or `.pt2`, which needs no code.
        what: "units" (channels, neurons and heads), one kind of them, "weights", "2:4", "4:8" or "blocks".
        by: What goes first by: "l2", "l1", "near-zero:0.1", "batchnorm-scale", "zero-activations", "entropy:lowest",
            "taylor", "fisher", "hessian:8", "random:0".
        amount: Of units, the share of the multiplications that goes; of weights, the share that becomes zero; of
            blocks, how many.
        latency: Instead: "p50 <= 5 ms".
        speedup: Instead: such as 2.0.
        schedule: "one-shot", "iterative:5" or "gradual:10".
        scope: Whether the units of all layers compete ("global"), or those of each ("layer").
        round_to: Channels that are left are a multiple of this.
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
        on_progress: Told of every step.
        limits: Of each child.

    Raises:
        PruningError: Nothing can be removed, or not so much, or the criterion has no answer.
        SourceError, SamplesError: The model or the samples can't be used.
        TrainingError: A training diverged.
        UsageError: No goal, or two of them.

    """
    from edgeport.pipeline.bench_opening import BenchSettings
    from edgeport.pipeline.pruning import prune_source
    from edgeport.recipe.compress import median_ns

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
        on_progress=on_progress,
        limits=limits,
    )


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
    patience: int | None = None,
    held_out: float = 0.1,
    seed: int = 0,
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
        patience: Epochs without better weights after which it stops; None: never.
        held_out: Part of the samples that says which weights are best, and is not trained on.
        seed: Of the order of the samples, and of that part.
        target: Key of the labels in the samples.
        device: That trains: "cpu", "cuda" or "auto".
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
        UsageError: No student, or two; or settings that can't be.
        SourceError, SamplesError: The models or the samples can't be used.
        TrainingError: It diverged.
        PruningError: The teacher can't be pruned so.

    """
    from edgeport.pipeline.bench_opening import BenchSettings
    from edgeport.pipeline.distilling import Scale, Student, distill_source
    from edgeport.recipe.compress import median_ns

    goal_ns = median_ns(latency) if latency else None
    try:
        step = DistillStep(
            L=tuple(L),
            R=tuple(R),
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
            patience=patience,
            held_out=held_out,
            seed=seed,
        )
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


def verify(
    source: ModelSource,
    model: Path,
    samples: Path,
    *,
    metric: str = "",
    target: str = "",
    tolerance: float = 1e-3,
    preprocess: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Verification:
    """Compares an exported model on ONNX Runtime with PyTorch, on real samples.

    Args:
        source: The PyTorch model.
        model: The `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, and the labels, if any. For a model with a fixed batch they
            are grouped into it.
        metric: Computed for both; it needs `target`.
        target: Name of the labels' array.
        tolerance: Largest absolute difference that passes, relative to the largest output.
        preprocess: A recipe; the samples are raw, and its [inputs.NAME.preprocess] say what becomes of them.
        limits: Of each child.

    Raises:
        SamplesError: Samples that do not fit the model, or fewer than its fixed batch.
        VerificationError, WrongOutput: Other outputs than PyTorch's.

    """
    from edgeport.pipeline.steps import verify_export

    return verify_export(
        source,
        model,
        samples,
        metric=metric,
        target=target,
        tolerance=tolerance,
        preprocess=preprocess,
        limits=limits,
    )


def calibrate(
    model: Path,
    samples: Path | str,
    *,
    output: Path,
    observers: tuple[str, ...] = ("extremes", "histogram", "averages"),
    batch_size: int = 32,
    target: str = "",
    preprocess: Path | None = None,
    workers: int = 1,
    recover: Sequence[str] = (),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Calibration:
    """Runs samples through a float model once and keeps statistics of every activation.

    Args:
        model: A float `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, or `pkg.mod:function`.
        output: The `.safetensors` file.
        observers: Names of what is kept; see `edgeport.calibration.observers`.
        batch_size: Samples per call; a model with a fixed batch takes that.
        target: An array in the `.npz` that is no input.
        preprocess: A recipe; the samples are raw, and its [inputs.NAME.preprocess] say what becomes of them.
        workers: Processes that share the samples; the result is the same for any number.
        recover: What prepares the model for integers, before it is calibrated: "equalization", "smoothing:0.5".
            Off by default. The model that the statistics are of is then written beside them, `NAME.recovered.onnx`:
            quantize that one.
        on_progress: Told of every batch.
        limits: Of the child.

    Raises:
        SamplesError: Samples that do not fit the model.
        AlreadyQuantizedError: The model is not float.
        CalibrationError: No such recovery method, or one that finds nothing to do in this model.

    """
    from edgeport.pipeline.steps import calibrate_onnx

    return calibrate_onnx(
        model,
        samples,
        output=output,
        observers=observers,
        batch_size=batch_size,
        target=target,
        preprocess=preprocess,
        workers=workers,
        recover=recover,
        on_progress=on_progress,
        limits=limits,
    )


def quantize(
    model: Path,
    calibration: Path | None = None,
    *,
    backend: str = "onnxruntime",
    precision: str = "int8",
    method: str | None = None,
    recover: Sequence[str] = (),
    samples: Path | str | None = None,
    target: str = "",
    preprocess: Path | None = None,
    output: Path,
    nodes: Mapping[str, str] | None = None,
    rest: str = "fp32",
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 (frozen)
    require_placement: float | None = None,
    profile: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Artifact:
    """Plans and compiles a model for one backend.

    Args:
        model: A float `.onnx` file.
        calibration: What `calibrate` wrote; static int8 needs it.
        backend: "onnxruntime", "openvino", "tensorrt" or `module:factory`.
        precision: "fp32", "bf16", "fp16", "int8", "int8-dynamic", or one of weights alone: "int8-weights",
            "int4-weights-32", "uint4-weights-128", ...; see `edgeport.contracts.Precision`.
        method: How ranges are found: "minmax", "average", "percentile:99.99", "entropy", "mse", "pow2", "global",
            "global:-6:6", "auto", or "measured", which needs `samples`; None for "measured" where there are samples,
            else "minmax".
        recover: What brings accuracy back to static int8: "rounding:500", "bias-correction". Off by default; they
            need `samples`.
        samples: Calibration samples, for the methods that run the model: `.npz` with one array [N, ...] per input, or
            `pkg.mod:function`.
        target: An array in the `.npz` that is no input.
        preprocess: A recipe; the samples are raw, and its [inputs.NAME.preprocess] say what becomes of them.
        output: A new or empty folder, which gets `artifact/`, `artifact.json`, `plan.json`, and `placement.json`
            where the runtime can say what ran where.
        nodes: Precisions of single nodes, beside an integer one of all others: the name of a node, a pattern, a PyTorch
            module or an operator type to a precision; of several that fit a node the last one counts.
        rest: Float precision of what is not integer, beside an integer one.
        execution: Threads and batch; the batch of a model with a fixed one is taken from the model.
        require_placement: Part of the planned nodes that must run as planned, 0..1; None where it does not matter.
        profile: Name in `device_profiles`: it is planned for a processor of that kind, whatever this machine has. What
            its runtime makes of the plan can be read here only where it is of this machine's architecture.
        limits: Of the child.

    Raises:
        UnsupportedByBackend: The backend has no such precision, or no such operator.
        AlreadyQuantizedError: The model is not float.
        SourceError, ModelFormatError: No ONNX file there.
        PlanError: A calibration of another model; or `nodes` names what the model has not, or what can't run so.
        UsageError: A precision that there is not, or static int8 without a calibration.
        CalibrationError: No such recovery method, or one that finds nothing to do in this model.
        PlacementMissed: Fewer nodes run as planned than `require_placement`; nothing is written.

    """
    from edgeport.pipeline.mixing import mix_named
    from edgeport.pipeline.steps import quantize_onnx

    return quantize_onnx(
        model,
        calibration,
        backend=backend,
        precision=precision,
        method=method,
        recover=recover,
        samples=samples,
        target=target,
        preprocess=preprocess,
        output=output,
        execution=execution,
        mix=mix_named(nodes or {}, rest),
        least_placement=require_placement,
        profile=profile,
        limits=limits,
    )


def tune(
    recipe: Path,
    *,
    output: Path | None = None,
    backend: str = "",
    time_s: float | None = None,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
) -> TuneResult:
    """Searches the nodes that int8 had better leave in float, for one target of a recipe.

    The plan is judged by the recipe's accuracy budget and timed on the device. `nodes.toml` in the output folder is
    its [[target]], `best/` its artifact; both are replaced whenever a better plan is known. In the end the plan is
    measured beside every float that its runtime has here; where it is not surely faster, the float is what is saved.

    Args:
        recipe: A TOML file; its `tune`, `nodes` and `rest` of the target count.
        output: Folder for what is found; `edgeport-tuned` beside the recipe by default.
        backend: Of the target; the first with int8 in its precisions by default.
        time_s: Of the search and the comparison with the floats, without what is done before (the export, the
            calibration); what earlier runs of the same search spent counts too. By default the target's `tune`, or 300.
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`.
        fresh: As in `run`.
        device: As in `run`.

    Raises:
        UsageError: No target with int8, or a model with a state.
        AlreadyQuantizedError: The model is quantized.
        OutputError: Something else is in the output's place.
        EdgeportError: The model or the data can't be used.

    """
    from edgeport.pipeline.tuning_alone import tune_recipe
    from edgeport.recipe import load_recipe

    return tune_recipe(
        load_recipe(recipe),
        output=output if output is not None else recipe.parent / "edgeport-tuned",
        backend=backend,
        time_s=time_s,
        store=store,
        on_progress=on_progress,
        limits=limits,
        fresh=fresh,
        device=device,
    )


def tune_execution(
    artifacts: Sequence[Path],
    *,
    goal: str = "latency",
    p99_ns: float | None = None,
    output: Path,
    time_s: float = 300.0,
    batches: Sequence[int] = (),
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    rounds: int = 10,
    duration_s: float = 0.3,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
    fresh: bool = False,
    device: str = "local",
) -> ExecutionTuned:
    """Searches how an artifact is best run on a device: threads, streams, batch, spinning, affinity, hints.

    What the runtime does by itself is among what is tried, and is what is saved unless something else is surely better
    in fresh pairs of processes. The output folder gets `best/`, the artifact or bundle with the settings that were
    chosen (which `run.py` and `bench` apply), and `tuned.json`.

    Args:
        artifacts: Folders that `quantize` wrote, bundles or `.onnx` files; of several, of one model, the best is saved.
        goal: "latency" (of one call after the other, lowest median) or "throughput" (samples per second, with as many
            calls at once as there are streams).
        p99_ns: For throughput: what 99 % of the calls must keep to, in nanoseconds.
        output: Folder for what is found.
        time_s: Of measuring, what earlier runs of the same search spent counts too.
        batches: Samples in a call that are tried, where the model's batch is free; for throughput 1 to 16 by default.
        backend: As in `bench`.
        samples: As in `bench`.
        preprocess: As in `bench`.
        rounds: Fresh pairs of the last word; 6 at least.
        duration_s: Seconds of timed calls per process.
        store: Of finished rounds, from which a search that was killed goes on.
        on_progress: Told before each process.
        limits: Of each child.
        fresh: Measure everything anew.
        device: Of `list_devices`; where it is timed.

    Raises:
        UsageError: No such goal, nothing that can be timed, or a backend that has no other way to run it.
        OutputError: Something else is in the output's place.
        BackendError, IsolationError: It does not run.

    """
    from edgeport.pipeline.execution_search import Goal
    from edgeport.pipeline.execution_tuning import ExecutionAsked
    from edgeport.pipeline.execution_tuning import tune_execution as tuned

    asked = ExecutionAsked(
        goal=Goal(of=goal, p99_ns=p99_ns),
        time_s=time_s,
        batches=tuple(batches),
        backend=backend,
        samples=samples,
        preprocess=preprocess,
        rounds=rounds,
        duration_s=duration_s,
        device=device,
        limits=limits,
    )
    return tuned(artifacts, asked, output=output, store=store, fresh=fresh, on_progress=on_progress)


def schedule(
    models: Mapping[str, tuple[Path, str | Bound]],
    *,
    output: Path,
    samples: Mapping[str, Path] | None = None,
    backend: str = "onnxruntime",
    rounds: int = 10,
    duration_s: float = 0.5,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> ScheduleResult:
    """Finds processors and priorities with which several models at work on this machine keep a budget each.

    Each model is timed alone on some of the processors, then all of them at the same time, each in a process of its own
    that calls without a pause: as they are, and in the ways to share the processors in which none is over its budget
    even alone. The output folder gets each artifact with its settings, in a folder of its name, and `schedule.json`.

    Args:
        models: Name to an artifact (as in `bench`) and its budget: "p90=20ms".
        output: Folder for what is found.
        samples: By name, as in `bench`.
        backend: As in `bench`.
        rounds: Times that a way is measured which may keep every budget.
        duration_s: Seconds of timed calls per process.
        on_progress: Told before each round.
        limits: Of each child.

    Raises:
        UsageError: Fewer than two models, no bound of a latency, or a backend that has no other way to run it.
        BackendError, IsolationError: One of them does not run.

    """
    from edgeport.pipeline.bench import parse_bounds
    from edgeport.pipeline.scheduling import schedule as scheduled

    held = {name: (path, parse_bounds([bound])[0]) for name, (path, bound) in models.items()}
    return scheduled(
        held,
        output=output,
        samples=samples,
        backend=backend,
        rounds=rounds,
        duration_s=duration_s,
        on_progress=on_progress,
        limits=limits,
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
        values: Of the method, where they are not its own: {"inner": 5}; see `edgeport.exporter.distill.generative`.
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
        DistillationError: A teacher that inputs can't be made for.
        SamplesError: An input without a size; or samples to judge by that do not fit.
        SourceError: A model that can't be loaded.
        TrainingError: It diverged.

    """
    from edgeport.exporter.distill.generative.methods import method_named
    from edgeport.exporter.distill.options import DistillOptions
    from edgeport.exporter.train import TrainingSettings
    from edgeport.pipeline.without_data import Asked
    from edgeport.pipeline.without_data import distill_without_data as distilled

    training: dict[str, Any] = {"batch_size": batch_size, "precision": mixed, "average": average, "seed": seed}
    training |= {"epochs": min(_LOOKS, steps)} if judged is not None else {}
    options: dict[str, Any] = {"optimizer": optimizer, "rate": rate, "weight_decay": weight_decay}
    asked = Asked(
        teacher=teacher,
        student=student,
        inputs=inputs,
        name=method,
        method=method_named(method, values, steps),
        steps=steps,
        L=tuple(L),
        R=tuple(R),
        lambda_=lambda_,
        options=DistillOptions(training=TrainingSettings(**training), **options),
        mirror=mirror,
        judged=judged,
        target=target,
        device=device,
    )
    return distilled(asked, output=output, made=made, store=store, on_progress=on_progress, limits=limits, fresh=fresh)


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
    from edgeport.exporter.distill.generative.methods import VaeOptions
    from edgeport.exporter.train import TrainingSettings
    from edgeport.pipeline.without_data import imitate as imitated

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
    teacher: float = 0.5,
    mixed: str = "fp32",
    average: float | None = 0.99,
    patience: int | None = None,
    seed: int = 0,
    device: str = "auto",
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
        teacher: Weight of the float model's outputs beside the labels, 0..1.
        mixed: Precision of the forward pass while training: "fp32", "bf16" or "fp16".
        average: Decay of the moving average of the weights; None for none.
        patience: Epochs without better weights after which it stops; None: never.
        seed: Of the order of the samples.
        device: "cpu", "cuda" or "auto".
        store: As in `run`.
        on_progress: As in `run`.
        limits: As in `run`; the child that trains may take a week.
        fresh: As in `run`.

    Raises:
        UsageError: No such target or precision; or a model that can't be trained (ONNX, with a state).
        SamplesError: Too few samples, or labels that do not fit the loss.
        TrainingError: It diverged.
        PlanError: Nothing of the plan is in the PyTorch graph.
        OutputError: Something else is in the output's place.
        EdgeportError: The model or the data can't be used.

    """
    from edgeport.exporter.qat.options import QatOptions, default_rate
    from edgeport.exporter.train.settings import TrainingSettings
    from edgeport.pipeline.learning import qat_recipe
    from edgeport.pipeline.mixing import precision_named
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
        options = QatOptions(training=training, rate=rate or default_rate(chosen), loss=loss, teacher=teacher)
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


def bench(
    artifact: Path,
    *,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    rounds: int = 10,
    duration_s: float = 0.3,
    threads: int | None = None,
    against: Path | None = None,
    budgets: Sequence[str | Bound] = (),
    until: float | None = None,
    time_s: float | None = None,
    scenario: str = "single-stream",
    streams: int | None = None,
    rate_per_s: float | None = None,
    energy: bool = False,
    cool_down_s: float = 0.0,
    baseline: Path | None = None,
    save_baseline: Path | None = None,
    require_placement: float | None = None,
    device: str = "local",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> BenchResult:
    """Times an artifact on this machine, in fresh processes; another one beside it, interleaved.

    Without `until`, `time_s` and a budget that measuring can decide, `rounds` processes are measured. Else measuring
    goes on until every budget is decided and the interval is as narrow as asked, for 60 s at most or `time_s`.

    Args:
        artifact: A folder that `quantize` wrote, a bundle, or an `.onnx` file, which is timed as it is.
        backend: That runs an `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, of which the first samples are bound; else the bundle's
            own sample, or random values.
        preprocess: A recipe; the samples are raw, and its [inputs.NAME.preprocess] say what becomes of them.
        rounds: Fresh processes per artifact, the fewest where measuring may go on; fewer than 10 may only give a wide
            interval.
        duration_s: Seconds of timed calls per process, at least.
        threads: For an `.onnx` file; None leaves the runtime's default.
        against: Another artifact, of the same kinds.
        budgets: What it must keep to: "p99=20ms", "throughput=200/s", "memory=300MB", "size=10MB",
            "first-inference=1s", each with a verdict of its own.
        until: Half the width of the interval over its estimate that is narrow enough (0.01 for 1 %): of the budget's
            quantiles, else of the median; of the throughput in "offline".
        time_s: Seconds after which no further round is begun.
        scenario: "single-stream" (one call after the other), "multi-stream" (one call of each stream at once),
            "server" (calls come at random times, `rate_per_s` on average), "offline" (each stream as fast as it can).
        streams: Calls that may run at the same time; None: as many as there are cores.
        rate_per_s: Of "server".
        energy: Measure joules per sample, where this machine has a meter; takes 10 s more, and a second per process.
        cool_down_s: Seconds of rest before each process but the first, at most: until the device's hottest zone is as
            cool as before that one; all of them where no zone tells.
        baseline: What `save_baseline` wrote earlier; being surely slower than that is a failure.
        save_baseline: A file that gets the raw traces.
        require_placement: Part of the planned nodes that must have run as planned when it was built, 0..1; one more
            verdict. A bundle does not hold its plan, so nothing can be said of it.
        device: Of `list_devices`; where it is timed.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed, or choices that do not go together.
        BackendError, IsolationError: It does not run, or it is not what its record says.

    """
    from edgeport.pipeline.bench import Asked, BenchSettings, bench_artifact, parse_bounds

    settings = BenchSettings(
        backend=backend,
        samples=samples,
        preprocess=preprocess,
        rounds=rounds,
        duration_s=duration_s,
        threads=threads,
        scenario=scenario,
        streams=streams,
        rate_per_s=rate_per_s,
        until=until,
        time_s=time_s,
        energy=energy,
        cool_down_s=cool_down_s,
        device=device,
        limits=limits,
    )
    asked = Asked(
        bounds=parse_bounds(budgets),
        against=against,
        baseline=baseline,
        save_baseline=save_baseline,
        least_placement=require_placement,
    )
    return bench_artifact(artifact, settings, asked, on_progress=on_progress)


def soak(
    artifact: Path,
    *,
    time_s: float = 3600.0,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    threads: int | None = None,
    device: str = "local",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> SoakResult:
    """Keeps an artifact at work, one call after the other, and tells how fast it is at first and how fast it stays.

    One process. That the device throttles is what this is there to show, and no reason to disbelieve it.

    Args:
        artifact: As in `bench`.
        time_s: Seconds of calls, 1 to 86400.
        backend: As in `bench`.
        samples: As in `bench`.
        preprocess: As in `bench`.
        threads: As in `bench`.
        device: Of `list_devices`; where it runs.
        on_progress: Told when it begins.
        limits: Of each child, beside `time_s`.

    Raises:
        UsageError: Nothing there that can be timed, or no such time.
        BackendError, IsolationError: It does not run, or it is not what its record says.

    """
    from edgeport.pipeline.bench import BenchSettings
    from edgeport.pipeline.soaking import soak_artifact

    settings = BenchSettings(
        backend=backend, samples=samples, preprocess=preprocess, threads=threads, device=device, limits=limits
    )
    return soak_artifact(artifact, settings, time_s, on_progress=on_progress)


def compare(
    old: Path,
    new: Path,
    *,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    rounds: int = 10,
    duration_s: float = 0.3,
    threads: int | None = None,
    delta: float | None = None,
    fail_on: str = "slower",
    until: float | None = None,
    time_s: float | None = None,
    cool_down_s: float = 0.0,
    device: str = "local",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> CompareResult:
    """Whether an artifact is faster or slower than another one, from pairs of fresh processes in random order.

    Args:
        old: A folder that `quantize` wrote, a bundle, or an `.onnx` file.
        new: Another one.
        backend: As in `bench`.
        samples: As in `bench`; for both.
        preprocess: As in `bench`.
        rounds: Pairs; the fewest where `until` or `time_s` is given. Below 6 nothing can be proved.
        duration_s: Seconds of timed calls per process.
        threads: As in `bench`.
        delta: A difference that does not matter, as a fraction; None: what the device shows of each artifact against
            itself, at least 2 %.
        fail_on: "slower": any certain slowdown fails; "regressed": only one that is surely above delta.
        until: Measure until the change is known, and half the width of the speedup's interval over its estimate is
            this (0.01 for 1 %).
        time_s: Measure until the change is known, but begin no round after so many seconds (60 if `until` is given).
        cool_down_s: As in `bench`.
        device: Of `list_devices`; where both are timed.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed.
        BackendError, IsolationError: One of them does not run, or is not what its record says.

    """
    from edgeport.contracts import Change
    from edgeport.pipeline.bench import BenchSettings
    from edgeport.pipeline.comparing import compare_artifacts

    if fail_on not in ("slower", "regressed"):
        raise UsageError(asked=f"fail on {fail_on!r}", found="no such change", fix="use slower or regressed")
    if delta is not None and not 0 < delta < 1:
        raise UsageError(asked=f"compare with delta {delta:g}", found="no fraction", fix="give one, such as 0.03")
    settings = BenchSettings(
        backend=backend,
        samples=samples,
        preprocess=preprocess,
        rounds=rounds,
        duration_s=duration_s,
        threads=threads,
        until=until,
        time_s=time_s,
        cool_down_s=cool_down_s,
        device=device,
        limits=limits,
    )
    return compare_artifacts(old, new, settings, delta=delta, fail_on=Change(fail_on), on_progress=on_progress)


def verify_bundle(
    folder: Path, *, run: bool = True, trust_code: bool = False, time_limit_s: float = 120.0
) -> BundleCheck:
    """Compares a bundle's files with its manifest, and its recorded outputs with what its artifact gives here.

    Args:
        folder: Of the bundle.
        run: Open and run it too, in a child with limits; only where its files are as they were written.
        trust_code: Run its own session module although that is not, byte for byte, one that is installed here.
        time_limit_s: Of the child.

    """
    from edgeport.bundle import load_bundle, run_bundle
    from edgeport.bundle import verify_bundle as problems_of

    problems = tuple(problems_of(folder))
    try:
        identity = load_bundle(folder).identity
    except EdgeportError:
        return BundleCheck(problems=problems, identity="")
    reproduced = None
    if run and not problems:
        reproduced = run_bundle(folder, limits=Limits(time_s=time_limit_s), trust_code=trust_code)
    return BundleCheck(problems=problems, identity=identity, reproduced=reproduced)


def add_device(name: str, address: str) -> dict[str, str]:
    """Keeps a device in the user's inventory; nothing is connected.

    Args:
        name: Letters, digits, `.`, `_` and `-`; the first is a letter or digit.
        address: `ssh://[user@]host[:port]`, `adb://SERIAL`, `local`, or `SCHEME://PLACE` of an installed package.

    Returns:
        As `list_devices`.

    Raises:
        UsageError: No name, no address, or another device has the name.

    """
    from edgeport.devices.inventory import load_inventory, parse_address

    load_inventory().added(name, parse_address(address)).save()
    return list_devices()


def list_devices() -> dict[str, str]:
    """Name to address of every device; "local", this machine, is always there."""
    from edgeport.devices.inventory import LOCAL, load_inventory

    return {LOCAL: LOCAL} | {name: str(at) for name, at in load_inventory().devices.items()}


def device_profiles() -> Mapping[str, Profile]:
    """Kinds of devices by name, each with what is right for it before one is asked."""
    from edgeport.devices.profiles import PROFILES

    return PROFILES


def remove_device(name: str) -> dict[str, str]:
    """Forgets a device of the user's inventory; what lies on it stays there.

    Returns:
        As `list_devices`.

    Raises:
        UsageError: There is no such device.

    """
    from edgeport.devices.inventory import load_inventory

    load_inventory().without(name).save()
    return list_devices()


def probe_device(name: str) -> DeviceProbe:
    """Everything that a device tells of itself, and which sources it lacks.

    Args:
        name: Of the inventory; "local" is this machine.

    Raises:
        UsageError: There is no such device.
        DeviceError: It can't be reached.

    """
    from edgeport.devices.inventory import LocalAddress, load_inventory
    from edgeport.devices.opening import local_probe

    if isinstance(load_inventory().address(name), LocalAddress):
        return local_probe()
    with _maintained(name) as device:
        return device.probe()


def prepare_device(
    name: str, *, packages: Sequence[str] = ("numpy", "onnxruntime"), wheels: Path | None = None
) -> DeviceFacts:
    """Makes an isolated environment of Python on a device, with the runtimes that artifacts need.

    Args:
        name: Of the inventory; not this machine.
        packages: Distributions, each with or without `==VERSION`.
        wheels: A folder of wheels that is brought there; nothing is fetched from elsewhere then.

    Returns:
        The facts of the device with it.

    Raises:
        UsageError: There is no such device, or no such name of a package.
        DeviceError: It can't be reached, or they could not be installed.

    """
    with _maintained(name) as device:
        return device.prepare(packages, wheels)


def clean_device(name: str) -> dict[str, Any]:
    """Removes everything that Edgeport keeps on a device: files, agents, the prepared environment.

    Args:
        name: Of the inventory; not this machine.

    Returns:
        `freed_bytes`, and `folder`, there.

    Raises:
        UsageError: There is no such device.
        DeviceError: It can't be reached, or another run is using it.

    """
    with _maintained(name) as device:
        return dict(device.clean())


@contextmanager
def _maintained(name: str) -> Iterator[MaintainedDevice]:
    from edgeport.devices.opening import maintained_device

    with (
        tempfile.TemporaryDirectory(prefix="edgeport-device-") as folder,
        maintained_device(name, Path(folder)) as device,
    ):
        yield device
