"""How a model is calibrated, planned and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeport.options.artifacts import PlacementOptions, PreprocessOptions
from edgeport.options.declare import option
from edgeport.options.precision import Precision

__all__ = ["CalibrateOptions", "QuantizeOptions"]


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(PreprocessOptions):
    """Of `edgeport.api.calibrate`.

    Attributes:
        observers: Names of what is kept; see `edgeport.calibration.observers`.
        target: An array in the `.npz` that is no input.
        batch_size: Samples per call; a model with a fixed batch takes that.
        workers: Processes that share the samples; the result is the same for any number.
        recover: What prepares the model for integers, before it is calibrated: "equalization", "smoothing:0.5". The
            model that the statistics are of is then written beside them, `NAME.recovered.onnx`: quantize that one.

    """

    observers: tuple[str, ...] = option(
        ("extremes", "histogram", "averages"),
        "What is watched, with commas.",
        parse="names",
        default_text="extremes,histogram,averages",
    )
    target: str = option("", "Key in the .npz that is no input, but the labels.")
    batch_size: int = option(32, least=1)
    workers: int = option(1, "Processes.", least=1)
    recover: tuple[str, ...] = option((), "Prepare the model for integers: equalization, smoothing.", metavar="METHOD")


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions(PlacementOptions, PreprocessOptions):
    """Of `edgeport.api.quantize`.

    Attributes:
        backend: "onnxruntime", "openvino", "tensorrt" or `module:factory`.
        precision: "fp32", "bf16", "fp16", "int8", "int8-dynamic", or one of weights alone: "int8-weights",
            "int4-weights-32", "uint4-weights-128", ...; see `edgeport.contracts.Precision`.
        method: How ranges are found: "minmax", "average", "percentile:99.99", "entropy", "mse", "pow2", "global",
            "global:-6:6", "auto", or "measured", which needs `samples`; None for "measured" where there are samples,
            else "minmax".
        recover: What brings accuracy back to static int8: "rounding:500", "bias-correction"; they need `samples`.
        samples: Calibration samples, where there is no calibration, and for the methods that run the model: `.npz`
            with one array [N, ...] per input, or `pkg.mod:function`. The model is then calibrated for this backend and
            `method` alone, and the statistics are not kept.
        target: An array in the `.npz` that is no input.
        nodes: Precisions of single nodes, beside an integer one of all others: the name of a node, a pattern, a PyTorch
            module or an operator type to a precision; of several that fit a node the last one counts.
        rest: Float precision of what is not integer, beside an integer one.
        profile: Name in `device_profiles`: it is planned for a processor of that kind, whatever this machine has. What
            its runtime makes of the plan can be read here only where it is of this machine's architecture.
        form: Of an artifact for ONNX Runtime: "onnx"; "onnx-fused" (with what the runtime's optimizer of transformers
            fuses, where that is measured faster here); "ort" (the runtime's own format, optimised as far as every
            machine can run it); or "ort-device" (as far as this machine and this version can).

    """

    backend: str = option("onnxruntime")
    precision: str = option("int8", choices=tuple(str(one) for one in Precision))
    method: str | None = option(
        None,
        "Ranges: auto, average, entropy, global[:-6:6], measured, minmax, mse, percentile[:99.99], pow2 "
        "[default: measured on --samples, else minmax].",
    )
    recover: tuple[str, ...] = option((), "Bring accuracy back to int8: rounding, bias-correction.", metavar="METHOD")
    samples: Path | str | None = option(
        None, "To calibrate with, to measure ranges, and for --recover: .npz or pkg.mod:fn.", parse="samples"
    )
    target: str = option("", "Key in the .npz that is no input, but the labels.")
    nodes: Mapping[str, str] = option(
        factory=dict,
        text="Another precision for a node, a pattern (*), a PyTorch module or an operator type; may be repeated.",
        flag="--node",
        parse="precisions",
        metavar="NAME=PRECISION",
    )
    rest: str = "fp32"
    profile: str | None = option(
        None, "A kind of device, of edgeport devices profiles.", flag="--for", metavar="PROFILE"
    )
    form: str = option(
        "onnx",
        "For ONNX Runtime: fused where that is faster; or its own format, for every machine or for this one.",
        choices=("onnx", "onnx-fused", "ort", "ort-device"),
    )
