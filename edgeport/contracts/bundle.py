"""What ships: a folder that can be checked without Edgeport's makers being asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts.backend import Artifact
from edgeport.contracts.candidate import Budget
from edgeport.contracts.device import DeviceFacts
from edgeport.contracts.tensors import TensorSpec
from edgeport.contracts.verdict import AccuracyResult, Comparison, LatencySummary

__all__ = ["Bundle", "Manifest"]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json` of a bundle.

    Attributes:
        name: Of the model.
        candidate: Name of the candidate that was chosen.
        artifact: As compiled; its folder is relative to the bundle.
        inputs, outputs: Of the model.
        labels: Class names by index, where there are any.
        accuracy, latency, against_float: As measured.
        budget: As asked.
        device: On which it was measured.
        versions: Of Edgeport, Python and the runtimes.
        files: Every other file of the bundle, relative path to SHA-256.
        source_digest: Of the ONNX model that it was made from.
        licence: SPDX name of the model's licence, as its owner states it; empty where unknown.
        data_free: Calibration used synthesised samples.

    """

    name: str
    candidate: str
    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    accuracy: AccuracyResult | None = None
    latency: LatencySummary | None = None
    against_float: Comparison | None = None
    budget: Budget
    device: DeviceFacts
    versions: Mapping[str, str]
    files: Mapping[str, str]
    source_digest: str
    licence: str = ""
    data_free: bool = False
    schema_version: int = field(default=1)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A written bundle."""

    folder: Path
    manifest: Manifest
