"""The model that all candidates are made from."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.contracts import OnnxModel, Verification
from edgeport.pipeline.evaluation.evaluate import Reference

__all__ = ["PreparedModel"]


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """What all candidates are made from.

    Attributes:
        model: The ONNX file, in the store.
        reference: The float model's outputs over the evaluation set.
        verification: Against PyTorch; None for a model that came as ONNX.
        notes: What a reader must know about the export, one sentence each.
        quantized: It came as ONNX and is quantized already.

    """

    model: OnnxModel
    reference: Reference
    verification: Verification | None
    notes: tuple[str, ...]
    quantized: bool = False
