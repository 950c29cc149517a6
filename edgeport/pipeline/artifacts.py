"""Artifacts as folders on disk: the record beside the files, and how it is found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeport.contracts import Artifact, OnnxModel, TensorSpec, load_json
from edgeport.errors import UsageError

__all__ = ["ARTIFACT_FILE", "MODEL_FILE", "load_artifact", "load_inputs", "write_artifact_record"]

ARTIFACT_FILE = "artifact.json"
MODEL_FILE = "model.json"
_MANIFEST = "manifest.json"


def write_artifact_record(folder: Path, artifact: Mapping[str, object], model: object) -> None:
    """Writes what the artifact in `folder/artifact` is, and of which model, as JSON beside it."""
    record = {**artifact, "folder": "artifact"}
    for name, values in ((ARTIFACT_FILE, record), (MODEL_FILE, model)):
        (folder / name).write_text(json.dumps(values, indent=1, sort_keys=True), encoding="utf-8")


def load_artifact(path: Path) -> Artifact:
    """The artifact in a folder that `quantize` wrote, or in a bundle.

    Raises:
        UsageError: There is none.
        ContractError: Its record is damaged.

    """
    if (path / ARTIFACT_FILE).is_file():
        return replace(load_json(Artifact, (path / ARTIFACT_FILE).read_bytes()), folder=path / "artifact")
    if (path / _MANIFEST).is_file():
        from edgeport.bundle import load_bundle

        return replace(load_bundle(path).manifest.artifact, folder=path / "artifact")
    raise UsageError(
        asked=f"open the artifact {path}",
        found=f"no {ARTIFACT_FILE} and no {_MANIFEST} in it" if path.is_dir() else "no such folder",
        fix="give a folder that `edgeport quantize` wrote, a bundle, or an .onnx file",
    )


def load_inputs(path: Path) -> tuple[TensorSpec, ...]:
    """The inputs of the artifact that `load_artifact(path)` gives."""
    if (path / MODEL_FILE).is_file():
        return load_json(OnnxModel, (path / MODEL_FILE).read_bytes()).inputs
    from edgeport.bundle import load_bundle

    return load_bundle(path).manifest.inputs
