"""The Python API: each step of the way as a function, and the whole way. The command line calls these.

Heavy packages load inside the functions; models from outside are parsed and run in child processes.
"""

from __future__ import annotations

import json
import tempfile
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
    Precision,
    RunResult,
    Verification,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import OutputError, SamplesError, UsageError
from edgeport.isolation import run_isolated
from edgeport.pipeline.artifacts import load_artifact, write_artifact_record

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
    output: Path,
    options: Mapping[str, Any] | None = None,
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> ExportReport:
    """Exports a PyTorch model to ONNX, in a child process.

    Args:
        source: The model.
        example: `.npz` with at least two samples of every input; the arrays' names are the inputs' names.
        input_shapes: Instead: shape of each float32 input, batch first; values are drawn at random.
        output: The `.onnx` file.
        options: Fields of `edgeport.exporter.options.ExportOptions`.
        on_progress: Told of every step.
        limits: Of the child.

    Raises:
        ExportError: PyTorch could not export it; names the line of the model.
        SourceError: The model could not be loaded.
        UsageError: Neither an example nor shapes.

    """
    from edgeport.exporter.options import ExportOptions

    _parent_exists(output)
    with tempfile.TemporaryDirectory(prefix="edgeport-export-") as scratch:
        payload = {
            "source": to_jsonable(source),
            "example": str(_example(example, input_shapes, Path(scratch))),
            "output": str(output.resolve()),
            "options": to_jsonable(ExportOptions(**(options or {}))),
        }
        found = run_isolated("edgeport.exporter.child:export_in_child", payload, limits=limits, on_progress=on_progress)
    return ExportReport(model=load_json(OnnxModel, json.dumps(found["model"])), notes=tuple(found["notes"]))


def _example(example: Path | None, shapes: Mapping[str, tuple[int, ...]] | None, scratch: Path) -> Path:
    import numpy as np

    if example is not None:
        if not example.is_file():
            raise SamplesError(asked=f"read the example {example}", found="no such file", fix="give an .npz file")
        samples = _load_npz(example)
        cut = {name: array[:2] for name, array in samples.items()}
        if any(len(array) < 2 for array in cut.values()):
            cut = samples
        np.savez(scratch / "example.npz", **cut)
    elif shapes:
        random = np.random.default_rng(0)
        made = {
            name: random.standard_normal((max(2, shape[0]) if shape else 2, *shape[1:])).astype(np.float32)
            for name, shape in shapes.items()
        }
        np.savez(scratch / "example.npz", **made)  # type: ignore[arg-type]  # the same
    else:
        raise UsageError(
            asked="export a model",
            found="neither an example nor input shapes",
            fix="give --example samples.npz, or --input NAME=1,3,224,224",
        )
    return scratch / "example.npz"


def _load_npz(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise SamplesError(
            asked=f"read the samples {path.name}",
            found=f"no .npz of plain arrays ({error})",
            fix="write it with numpy.savez; arrays of objects are not read",
        ) from error


def _parent_exists(path: Path) -> None:
    if path.is_symlink() or path.is_dir():
        raise OutputError(
            asked=f"write {path}", found="a link" if path.is_symlink() else "a folder", fix="name another file"
        )
    path.parent.mkdir(parents=True, exist_ok=True)


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
        samples: `.npz` with one array [N, ...] per input, and the labels, if any.
        metric: Computed for both, where there are labels.
        target: Name of the labels' array.
        tolerance: Largest absolute difference that passes, relative to the largest output.
        limits: Of each child.

    Raises:
        VerificationError, WrongOutput: Other outputs than PyTorch's.

    """
    import numpy as np

    from edgeport.onnx_files import open_onnx

    opened = open_onnx(model)
    feeds = _load_npz(samples)
    labels = feeds.pop(target, None) if target else None
    count = len(next(iter(feeds.values()), ()))
    fixed = opened.inputs[0].shape[0] if opened.inputs and opened.inputs[0].shape else 1
    batches = [fixed] if isinstance(fixed, int) else sorted({1, min(2, max(1, count))})
    with tempfile.TemporaryDirectory(prefix="edgeport-verify-") as scratch:
        folder = Path(scratch)
        np.savez(folder / "feeds.npz", **feeds)
        if labels is not None:
            np.save(folder / "target.npy", labels, allow_pickle=False)
        payload: dict[str, object] = {"feeds": str(folder / "feeds.npz"), "reference": str(folder / "reference.npz")}
        run_isolated(
            "edgeport.exporter.child:reference_in_child", {**payload, "source": to_jsonable(source)}, limits=limits
        )
        payload |= {
            "model": to_jsonable(opened),
            "target": str(folder / "target.npy") if labels is not None else None,
            "metric": metric,
            "tolerance": tolerance,
            "batch_sizes": batches,
            "search_path": str(source.search_path) if source.search_path else None,
        }
        found = run_isolated("edgeport.pipeline.children:verify", payload, limits=limits)
    return load_json(Verification, json.dumps(found["verification"]))


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
        batch_size: Samples per call.
        target: An array in the `.npz` that is no input.
        on_progress: Told of every batch.
        limits: Of the child.

    Raises:
        SamplesError: Samples that do not fit the model.
        AlreadyQuantizedError: The model is not float.

    """
    from edgeport.contracts.recipe import SamplesFile, SamplesFunction
    from edgeport.onnx_files import open_onnx

    _parent_exists(output)
    text = str(samples)
    is_function = isinstance(samples, str) and ":" in text and not Path(text).exists()
    location = (
        SamplesFunction(function=text, search_path=Path.cwd())
        if is_function
        else SamplesFile(path=Path(text).resolve())
    )
    payload = {
        "model": to_jsonable(open_onnx(model)),
        "samples": to_jsonable(location),
        "target": target,
        "observers": list(observers),
        "batch_size": batch_size,
        "output": str(output.resolve()),
    }
    run_isolated("edgeport.pipeline.children:calibrate", payload, limits=limits, on_progress=on_progress)
    return Calibration.load(output)


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
        execution: Threads and batch.
        limits: Of the child.

    Raises:
        UnsupportedByBackend: The backend has no such precision, or no such operator.
        PlanError: Static int8 without a calibration, or a calibration of another model.

    """
    from edgeport.onnx_files import open_onnx

    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise OutputError(
            asked=f"write an artifact to {output}", found="something there already", fix="name a new or empty folder"
        )
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=_made(output.resolve().parent)) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        payload = {
            "model": to_jsonable(open_onnx(model)),
            "backend": backend,
            "precision": str(Precision(precision)),
            "execution": to_jsonable(execution),
            "calibration": str(calibration.resolve()) if calibration is not None else None,
            "method": method,
            "folder": str(folder),
        }
        found = run_isolated("edgeport.pipeline.children:build", payload, limits=limits)
        if found["placement"]:
            (folder / "placement.json").write_text(json.dumps(found["placement"]), encoding="utf-8")
        write_artifact_record(folder, found["artifact"], payload["model"])
        if output.exists():
            output.rmdir()
        folder.replace(output)
    return load_artifact(output)


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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
