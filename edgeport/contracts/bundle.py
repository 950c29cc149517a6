"""What ships: a folder that can be checked without Edgeport's makers being asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts.backend import Artifact
from edgeport.contracts.candidate import Budget
from edgeport.contracts.device import DeviceFacts
from edgeport.contracts.serialise import digest_file
from edgeport.contracts.tensors import AxisRange, TensorSpec
from edgeport.contracts.verdict import AccuracyResult, Comparison, LatencySummary, Throughput

__all__ = ["Bundle", "Manifest", "Measured", "Provenance"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model comes from, as its owner states it, and what it was made with; what is not known is empty.

    Attributes:
        licence: SPDX expression of the model's licence ("Apache-2.0").
        author, url, version: Of the model, as the recipe states them.
        source: What the recipe names as the model; of a file its name.
        source_file_digest, weights_digest, recipe_digest: SHA-256 of these files.
        evaluation_fingerprint, calibration_fingerprint: Of the sample sets.
        evaluation_samples, calibration_samples: How many there were.
        compressed_by: What was done to the PyTorch model, in order, each in a few words; empty where it is as it was.
        training_fingerprint, training_samples: Of the samples that this looked at and learned from.
        seed: Of the random order of measurements.
        tools: Versions of the packages that export and calibration rest on.

    """

    licence: str = ""
    author: str = ""
    url: str = ""
    version: str = ""
    source: str = ""
    source_file_digest: str = ""
    weights_digest: str = ""
    recipe_digest: str = ""
    evaluation_fingerprint: str = ""
    evaluation_samples: int = 0
    calibration_fingerprint: str = ""
    calibration_samples: int = 0
    compressed_by: tuple[str, ...] = ()
    training_fingerprint: str = ""
    training_samples: int = 0
    seed: int = 0
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json` of a bundle: what it is. Equal input gives equal bytes; what was measured is in `Measured`.

    Attributes:
        name: Of the model.
        target: Name of the targets that it is for; empty where they have none.
        candidate: Name of the candidate that was chosen.
        artifact: As compiled; its folder is relative to the bundle, and how long it took to compile is in `Measured`.
        inputs, outputs: Of the model.
        state: Output to the input that it feeds on the next call, for stateful models.
        axes: Range of a free axis, by its name, where it was declared.
        labels: Class names by index, where there are any.
        class_output: Name of the output that holds scores of classes; empty where the recipe does not say so.
        budget: As asked.
        device: On which the outputs were recorded.
        versions: Of Edgeport, Python and the runtimes.
        files: Every other file of the bundle but the measured ones, relative path to SHA-256.
        source_digest: Of the ONNX model that it was made from.
        provenance: Where that comes from.
        data_free: Calibration used synthesised samples.

    """

    name: str
    target: str = ""
    candidate: str
    artifact: Artifact
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, AxisRange] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    class_output: str = ""
    budget: Budget
    device: DeviceFacts
    versions: Mapping[str, str]
    files: Mapping[str, str]
    source_digest: str
    provenance: Provenance = field(default_factory=Provenance)
    data_free: bool = False
    schema_version: int = field(default=2)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`measured.json` of a bundle: what was found when it was measured, which no two measurements have alike.

    Attributes:
        identity: SHA-256 of the `manifest.json` that it belongs to.
        accuracy, latency, throughput, against_float: Of the candidate.
        compile_ns: See `Artifact`.
        report_digest: SHA-256 of `report.html`; empty where there is none.
        checksum: SHA-256 of all the other fields as canonical JSON.

    """

    identity: str
    accuracy: AccuracyResult | None = None
    latency: LatencySummary | None = None
    throughput: Throughput | None = None
    against_float: Comparison | None = None
    compile_ns: int | None = None
    report_digest: str = ""
    checksum: str = ""
    schema_version: int = field(default=1)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A written bundle.

    Attributes:
        folder: Where it is.
        manifest: What it is.

    """

    folder: Path
    manifest: Manifest

    @property
    def identity(self) -> str:
        """SHA-256 of `manifest.json`: equal for equal input, whatever was measured."""
        return digest_file(self.folder / "manifest.json")
