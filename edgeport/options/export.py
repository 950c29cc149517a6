"""How PyTorch becomes ONNX, and how the two are compared."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.artifacts import PreprocessOptions
from edgeport.options.declare import option

__all__ = ["ExportSettings", "VerifyOptions"]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How PyTorch becomes ONNX; without meaning where the model is ONNX already.

    Attributes:
        opset: Of the default domain.
        dynamic_batch: Axis 0 of every input is free.
        allow_legacy_exporter: Where torch.export fails, TorchScript may be tried; it is said aloud.

    """

    opset: int = option(20, least=18, most=23, recipe="of the default ONNX domain")
    dynamic_batch: bool = option(
        default=True,
        text="Keep the example's batch size; else it is free.",
        flag="--fixed-batch",
        parse="not",
        default_text=False,
        recipe="leave the batch axis free; else it is what [inputs] declares, or 1",
    )
    allow_legacy_exporter: bool = option(
        default=False,
        text="Try TorchScript where torch.export fails.",
        recipe="try TorchScript where torch.export fails, and say so",
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(PreprocessOptions):
    """Of `edgeport.api.verify`.

    Attributes:
        metric: Computed for both; it needs `target`.
        target: Name of the labels' array.
        tolerance: Largest absolute difference that passes, relative to the largest output.

    """

    metric: str = option("", "Compute this metric of both, too; it needs --target.")
    target: str = option("", "Key of the labels in the .npz.")
    tolerance: float = option(1e-3, above=0)
