"""From ONNX to an artifact, and what ships."""

from __future__ import annotations

from dataclasses import dataclass, fields
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
from edgeport.options.quantize import CalibrateOptions, QuantizeOptions

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
    options: CalibrateOptions = CalibrateOptions(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Calibration:
    """Runs samples through a float model once and keeps statistics of every activation.

    Args:
        model: A float `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, or `pkg.mod:function`.
        output: The `.safetensors` file.
        options: What is kept, and what is done to the model before.
        on_progress: Told of every batch.
        limits: Of the child.

    Raises:
        SamplesError: Samples that do not fit the model.
        AlreadyQuantizedError: The model is not float.
        CalibrationError: No such recovery method, or one that finds nothing to do in this model.

    """
    from edgeport.pipeline.quantization.calibration import calibrate_onnx

    return calibrate_onnx(model, samples, output=output, **vars(options), on_progress=on_progress, limits=limits)


def quantize(
    model: Path,
    calibration: Path | None = None,
    *,
    output: Path,
    options: QuantizeOptions = QuantizeOptions(),
    execution: ExecutionConfig = ExecutionConfig(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> Artifact:
    """Plans and compiles a model for one backend.

    Args:
        model: A float `.onnx` file.
        calibration: What `calibrate` wrote; static int8 needs it, or samples.
        output: A new or empty folder, which gets `artifact/`, `artifact.json`, `plan.json`, and `placement.json`
            where the runtime can say what ran where.
        options: For which backend, in which precisions, and how ranges are found.
        execution: Threads and batch; the batch of a model with a fixed one is taken from the model.
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
    from edgeport.pipeline.compilation.quantize import quantize_onnx
    from edgeport.pipeline.quantization.planning import mix_named

    apart = ("nodes", "rest", "require_placement")
    return quantize_onnx(
        model,
        calibration,
        output=output,
        execution=execution,
        mix=mix_named(options.nodes, options.rest),
        least_placement=options.require_placement,
        on_progress=on_progress,
        limits=limits,
        **{one.name: getattr(options, one.name) for one in fields(QuantizeOptions) if one.name not in apart},
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
