"""The folder that a backend ships: made in one step, named by what is in it, checked before it is opened."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeport.atomic import atomic_folder
from edgeport.contracts import Artifact, ExecutionConfig, Precision, digest_bytes, digest_file
from edgeport.contracts.serialise import canonical
from edgeport.errors import BackendError, OutputError

__all__ = ["artifact_digest", "artifact_folder", "check_artifact", "make_artifact", "with_settings"]


def make_artifact(  # noqa: PLR0913 (the fields of an artifact)
    *,
    backend: str,
    folder: Path,
    entry: str,
    session: str,
    settings: Mapping[str, object],
    precision: Precision,
    execution: ExecutionConfig,
) -> Artifact:
    """Describes a finished folder.

    Args:
        backend: Its name.
        folder: What ships, finished.
        entry: The file in it that the session opens.
        session: Dotted name of the session module.
        settings: What that module's `open_session` is handed; JSON values.
        precision: The plan's name in tables.
        execution: As it was asked for.

    """
    return Artifact(
        backend=backend,
        folder=folder,
        entry=entry,
        session=session,
        settings=dict(settings),
        precision=precision,
        execution=execution,
        size_bytes=sum(path.stat().st_size for path in _files(folder)),
        digest=artifact_digest(folder, settings),
    )


def with_settings(
    artifact: Artifact, execution: ExecutionConfig, names: Collection[str], settings: Mapping[str, object]
) -> Artifact:
    """The same files, run otherwise.

    Args:
        artifact: As it is.
        execution: How it is to run.
        names: The settings that say how; those of the artifact are left out.
        settings: In their place.

    """
    whole = {name: value for name, value in artifact.settings.items() if name not in names} | dict(settings)
    return replace(artifact, settings=whole, execution=execution, digest=artifact_digest(artifact.folder, whole))


def artifact_digest(folder: Path, settings: Mapping[str, object]) -> str:
    """SHA-256, hexadecimal, over the names and bytes of the folder's files, and the settings."""
    parts = [canonical(dict(settings))]
    for path in _files(folder):
        parts += [path.relative_to(folder).as_posix().encode(), digest_file(path).encode()]
    return digest_bytes(parts)


def check_artifact(artifact: Artifact) -> Path:
    """The file to open, once the folder is known to be what was compiled.

    Raises:
        BackendError: A file was changed, added or lost since.

    """
    path = artifact.folder / artifact.entry
    found = artifact_digest(artifact.folder, artifact.settings) if path.is_file() else "no such file"
    if found != artifact.digest:
        raise BackendError(
            asked=f"open {path.name} of {artifact.backend}, digest {artifact.digest[:12]}",
            found=f"{found[:12]} in {artifact.folder.name}",
            fix="compile it again; the folder changed after it was compiled",
        )
    return path


@contextmanager
def artifact_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `output` when the block ends well; nothing is left when it does not.

    Raises:
        OutputError: `output` is there already and is not empty, or is no folder.

    """
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise OutputError(
            asked=f"write an artifact to {output.name}",
            found="a link, a file, or a folder with something in it",
            fix="give a folder that is empty or not there yet",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(output) as draft:
        yield draft


def _files(folder: Path) -> list[Path]:
    """The folder's files, in the order of their names."""
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.relative_to(folder).as_posix()
    )
