"""Artifacts as folders on disk: the record beside the files, and how it is found again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeport.atomic import atomic_folder
from edgeport.contracts import (
    Artifact,
    LatencySummary,
    Measured,
    OnnxModel,
    TensorSpec,
    digest_file,
    load_json,
    to_jsonable,
)
from edgeport.errors import OutputError, UsageError

__all__ = [
    "ARTIFACT_FILE",
    "BEST",
    "MODEL_FILE",
    "artifact_draft",
    "load_artifact",
    "load_inputs",
    "load_state",
    "make_room",
    "require_writable",
    "save_tuned",
    "write_artifact_record",
]

ARTIFACT_FILE = "artifact.json"
MODEL_FILE = "model.json"
_MANIFEST = "manifest.json"

_BESIDE = ("plan.json", "placement.json")

BEST = "best"


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


def save_tuned(artifact: Artifact, source: Path, place: Path, summary: LatencySummary | None) -> None:
    """Writes the folder, in the place of what an earlier search wrote there; whole, or not at all.

    Args:
        artifact: With its new settings.
        source: What it was opened from: a folder of `quantize`, a bundle, or an `.onnx` file.
        place: The folder.
        summary: What was measured with the new settings; None where nothing was yet.

    """
    with atomic_folder(place, overwrite=True) as draft:
        if source.suffix != ".onnx" and not (source / ARTIFACT_FILE).is_file():
            _fill_bundle(artifact, source, draft, summary)
        else:
            _fill_artifact(artifact, source, draft)


def _fill_artifact(artifact: Artifact, source: Path, draft: Path) -> None:
    from edgeport.onnx_files import open_onnx

    shutil.copytree(artifact.folder, draft / "artifact")
    beside = artifact.folder.parent
    for name in _BESIDE:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, draft / name)
    if source.suffix == ".onnx":
        model = to_jsonable(open_onnx(source))
    else:
        model = json.loads((source / MODEL_FILE).read_text(encoding="utf-8"))
    write_artifact_record(draft, to_jsonable(artifact), model)


def _fill_bundle(artifact: Artifact, source: Path, draft: Path, summary: LatencySummary | None) -> None:
    """The bundle with another manifest; what was measured of it as it was run before is left out."""
    from edgeport.bundle import load_bundle, load_measured
    from edgeport.bundle.measured import REPORT, write_measured
    from edgeport.bundle.verify import MANIFEST

    bundle, measured = load_bundle(source), load_measured(source)
    for name in bundle.manifest.files:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, draft / name, follow_symlinks=False)
    built = replace(artifact, folder=Path("artifact"), compile_ns=None)
    manifest = replace(bundle.manifest, artifact=built)
    text = json.dumps(to_jsonable(manifest), indent=2, sort_keys=True, ensure_ascii=False)
    (draft / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
    told = Measured(
        identity=digest_file(draft / MANIFEST),
        accuracy=measured.accuracy,
        latency=summary,
        compile_ns=measured.compile_ns,
        report_digest=measured.report_digest,
    )
    if measured.report_digest and (source / REPORT).is_file():
        shutil.copyfile(source / REPORT, draft / REPORT, follow_symlinks=False)
    write_measured(told, draft)


def make_room(folder: Path, names: Sequence[str] = (BEST,), given: Sequence[Path] = ()) -> None:
    """The output folder, before minutes are spent.

    Args:
        folder: Of the output.
        names: Of the folders in it that will be replaced, each by an artifact or a bundle.
        given: What the search begins with, which must stay: not in such a folder.

    Raises:
        OutputError: Something else is there, or what is given; or it can't be written.

    """
    asked = f"write what is found to {folder}"
    places = [folder / name for name in names]
    foreign = [path for path in (folder, *places) if path.is_symlink() or (path.exists() and not path.is_dir())]
    if not foreign:
        ours = (ARTIFACT_FILE, _MANIFEST)
        foreign = [path for path in places if path.is_dir() and not any((path / name).is_file() for name in ours)]
    if foreign:
        raise OutputError(asked=asked, found=f"something else in the place of {foreign[0]}", fix="name another folder")
    kept = [part for one in given if one.exists() for part in (one.absolute(), *one.absolute().parents)]
    own = [path for path in places if path.exists() and any(path.samefile(one) for one in kept)]
    if own:
        raise OutputError(
            asked=asked, found=f"that {own[0]} would be replaced, which was given", fix="name another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            asked=asked,
            found=f"that it can't be written to ({error.strerror or error})",
            fix="name a folder where you may write",
        ) from error
