"""The Python API: each step of the way as a function, and the whole way. The command line calls these.

Heavy packages load inside the functions; models from outside are parsed and run in child processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    Artifact,
    Budget,
    Calibration,
    ExecutionConfig,
    Limits,
    ModelSource,
    OnnxModel,
    OnProgress,
    RunResult,
    Verification,
    silent,
)
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.pipeline.bench import BenchResult

__all__ = [
    "ExportReport",
    "bench",
    "calibrate",
    "export",
    "quantize",
    "quickstart",
    "run",
    "verify",
]

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """An exported model.

    Attributes:
        model: The ONNX file.
        notes: What a reader must know, one sentence each.

    """

    model: OnnxModel
    notes: tuple[str, ...] = ()


def run(
    recipe: Path, *, output: Path | None = None, store: Path | None = None, on_progress: OnProgress = silent
) -> RunResult:
    """Walks the whole way of a recipe: export, verify, calibrate, compile, validate, time, choose, bundle, report.

    Args:
        recipe: A TOML file (docs/reference/recipe.md).
        output: Folder for bundle, report and result; `edgeport-out` beside the recipe by default.
        store: Folder of finished steps; the user's cache folder by default.
        on_progress: Told of every step, with the time left.

    Raises:
        RecipeError: The recipe is not one.
        EdgeportError: The model or the data can't be used.

    """
    from edgeport.pipeline import run_recipe
    from edgeport.recipe import load_recipe

    target = output if output is not None else recipe.parent / "edgeport-out"
    return run_recipe(load_recipe(recipe), output=target, store=store, on_progress=on_progress)


def quickstart(output: Path, *, store: Path | None = None, on_progress: OnProgress = silent) -> RunResult:
    """Trains a small network on scikit-learn's digits and takes it the whole way.

    Args:
        output: Folder that gets the model, its data, a recipe, and the recipe's output in `edgeport-out`.
        store: As in `run`.
        on_progress: As in `run`.

    Raises:
        DependencyError: The extra `quickstart` is not installed.

    """
    from edgeport.digits import prepare

    return run(prepare(output, on_progress), store=store, on_progress=on_progress)


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


def verify(
    source: ModelSource,
    model: Path,
    samples: Path,
    *,
    metric: str = "",
    target: str = "",
    tolerance: float = 1e-3,
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
        limits: Of each child.

    Raises:
        SamplesError: Samples that do not fit the model, or fewer than its fixed batch.
        VerificationError, WrongOutput: Other outputs than PyTorch's.

    """
    from edgeport.pipeline.steps import verify_export

    return verify_export(source, model, samples, metric=metric, target=target, tolerance=tolerance, limits=limits)


def calibrate(
    model: Path,
    samples: Path | str,
    *,
    output: Path,
    observers: tuple[str, ...] = ("extremes", "histogram"),
    batch_size: int = 32,
    target: str = "",
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
        on_progress: Told of every batch.
        limits: Of the child.

    Raises:
        SamplesError: Samples that do not fit the model.
        AlreadyQuantizedError: The model is not float.

    """
    from edgeport.pipeline.steps import calibrate_onnx

    return calibrate_onnx(
        model,
        samples,
        output=output,
        observers=observers,
        batch_size=batch_size,
        target=target,
        on_progress=on_progress,
        limits=limits,
    )


def quantize(
    model: Path,
    calibration: Path | None = None,
    *,
    backend: str = "onnxruntime",
    precision: str = "int8",
    method: str = "minmax",
    output: Path,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 (frozen)
    limits: Limits = DEFAULT_LIMITS,
) -> Artifact:
    """Plans and compiles a model for one backend.

    Args:
        model: A float `.onnx` file.
        calibration: What `calibrate` wrote; static int8 needs it.
        backend: "onnxruntime", "openvino", "tensorrt" or `module:factory`.
        precision: "fp32", "bf16", "fp16", "int8" or "int8-dynamic".
        method: "minmax" or "percentile:99.99".
        output: A new or empty folder, which gets `artifact/`, `artifact.json`, `plan.json`, and `placement.json`
            where the runtime can say what ran where.
        execution: Threads and batch; the batch of a model with a fixed one is taken from the model.
        limits: Of the child.

    Raises:
        UnsupportedByBackend: The backend has no such precision, or no such operator.
        AlreadyQuantizedError: The model is not float.
        PlanError: Static int8 without a calibration, or a calibration of another model.

    """
    from edgeport.pipeline.steps import quantize_onnx

    return quantize_onnx(
        model,
        calibration,
        backend=backend,
        precision=precision,
        method=method,
        output=output,
        execution=execution,
        limits=limits,
    )


def bench(
    artifact: Path,
    *,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    rounds: int = 10,
    duration_s: float = 0.5,
    threads: int | None = None,
    against: Path | None = None,
    budget: Budget | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> BenchResult:
    """Times an artifact on this machine, in fresh processes; another one beside it, interleaved.

    Args:
        artifact: A folder that `quantize` wrote, a bundle, or an `.onnx` file, which is timed as it is.
        backend: That runs an `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, of which the first samples are bound; else the bundle's
            own sample, or random values.
        rounds: Fresh processes per artifact; fewer than 10 may only give a wide interval.
        duration_s: Seconds of timed calls per process.
        threads: For an `.onnx` file; None leaves the runtime's default.
        against: Another artifact, of the same kinds.
        budget: Latency, size, memory and first inference that it must keep to.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed.
        BackendError, IsolationError: It does not run.

    """
    from edgeport.pipeline.bench import BenchSettings, bench_artifact

    settings = BenchSettings(
        backend=backend, samples=samples, rounds=rounds, duration_s=duration_s, threads=threads, limits=limits
    )
    return bench_artifact(artifact, settings, against=against, budget=budget or Budget(), on_progress=on_progress)
