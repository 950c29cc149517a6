"""Artifacts as folders on disk: the record beside the files, and how it is found again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeport.atomic import atomic_folder
from edgeport.contracts import Artifact, OnnxModel, TensorSpec, load_json
from edgeport.errors import OutputError, UsageError

__all__ = [
    "ARTIFACT_FILE",
    "MODEL_FILE",
    "artifact_draft",
    "load_artifact",
    "load_inputs",
    "load_state",
    "require_writable",
    "write_artifact_record",
]

ARTIFACT_FILE = "artifact.json"
MODEL_FILE = "model.json"
_MANIFEST = "manifest.json"


def require_writable(file: Path) -> None:
    """Makes the folder of a file to come, before work is spent on what can't be written.

    Raises:
        OutputError: A link or a folder of that name, or no way to write there.

    """
    if file.is_symlink() or file.is_dir():
        raise OutputError(
            asked=f"write {file}", found="a link" if file.is_symlink() else "a folder", fix="name another file"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise OutputError(
            asked=f"write {file}",
            found=f"that {file.parent} can't be written to ({error.strerror or error})",
            fix="name a file in a folder that you may write to",
        ) from error


@contextmanager
def artifact_draft(output: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes `output` when the block ends well; nothing is left when it does not.

    Args:
        output: The folder.
        overwrite: Whether a full one is replaced.

    Raises:
        OutputError: Something else is there already, or it can't be written.

    """
    asked = f"write an artifact to {output}"
    if output.is_symlink() or (output.exists() and (not output.is_dir() or (any(output.iterdir()) and not overwrite))):
        raise OutputError(asked=asked, found="something there already", fix="name a new or empty folder")
    try:
        output = output.resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(output, overwrite=overwrite) as draft:
            yield draft
    except OSError as error:
        raise OutputError(
            asked=asked, found=f"that it can't be written ({error})", fix="name a folder where you may write"
        ) from error


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
        found=f"no {ARTIFACT_FILE} and no {_MANIFEST} in it"
        if path.is_dir()
        else "a file that is no .onnx"
        if path.is_file()
        else "no such folder",
        fix="give a folder that `edgeport quantize` wrote, a bundle, or an .onnx file",
    )


def load_inputs(path: Path) -> tuple[TensorSpec, ...]:
    """The inputs of the artifact that `load_artifact(path)` gives."""
    if (path / MODEL_FILE).is_file():
        return load_json(OnnxModel, (path / MODEL_FILE).read_bytes()).inputs
    from edgeport.bundle import load_bundle

    return load_bundle(path).manifest.inputs


def load_state(path: Path) -> Mapping[str, str]:
    """Output to the input that it feeds, of a bundle whose model has a state; empty for all else."""
    from edgeport.bundle import load_bundle

    return load_bundle(path).manifest.state if (path / _MANIFEST).is_file() else {}
