"""From ONNX to an artifact, and what ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Artifact,
    Calibration,
    ExecutionConfig,
    Limits,
    OnProgress,
    silent,
)
from edgeport.errors import EdgeportError

if TYPE_CHECKING:
    from edgeport.bundle import ReplayResult

__all__ = [
    "BundleCheck",
    "calibrate",
    "quantize",
    "verify_bundle",
]


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
    from edgeport.pipeline.quantization.calibration import calibrate_onnx

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
    form: str = "onnx",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Artifact:
    """Plans and compiles a model for one backend.

    Args:
        model: A float `.onnx` file.
        calibration: What `calibrate` wrote; static int8 needs it, or `samples`.
        backend: "onnxruntime", "openvino", "tensorrt" or `module:factory`.
        precision: "fp32", "bf16", "fp16", "int8", "int8-dynamic", or one of weights alone: "int8-weights",
            "int4-weights-32", "uint4-weights-128", ...; see `edgeport.contracts.Precision`.
        method: How ranges are found: "minmax", "average", "percentile:99.99", "entropy", "mse", "pow2", "global",
            "global:-6:6", "auto", or "measured", which needs `samples`; None for "measured" where there are samples,
            else "minmax".
        recover: What brings accuracy back to static int8: "rounding:500", "bias-correction". Off by default; they
            need `samples`.
        samples: Calibration samples, where there is no `calibration`, and for the methods that run the model: `.npz`
            with one array [N, ...] per input, or `pkg.mod:function`. The model is then calibrated for this backend and
            `method` alone, and the statistics are not kept.
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
        form: Of an artifact for ONNX Runtime: "onnx"; "onnx-fused" (with what the runtime's optimizer of transformers
            fuses, where that is measured faster here); "ort" (the runtime's own format, optimised as far as every
            machine can run it); or "ort-device" (as far as this machine and this version can).
        on_progress: Told of every batch, where it is calibrated.
        limits: Of the child.

    Raises:
        UnsupportedByBackend: The backend has no such precision, no such operator, or no such form.
        AlreadyQuantizedError: The model is not float.
        SamplesError: Samples that do not fit the model.
        SourceError, ModelFormatError: No ONNX file there.
        PlanError: A calibration of another model; or `nodes` names what the model has not, or what can't run so.
        UsageError: A precision that there is not, or static int8 without a calibration and samples.
        CalibrationError: No such recovery method, or one that finds nothing to do in this model.
        PlacementMissed: Fewer nodes run as planned than `require_placement`; nothing is written.

    """
    from edgeport.pipeline.compilation.compile import quantize_onnx
    from edgeport.pipeline.quantization.planning import mix_named

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
        form=form,
        on_progress=on_progress,
        limits=limits,
    )


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
    reproduced: ReplayResult | None = None


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
