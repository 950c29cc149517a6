"""The output folder of a search, whose `best/` is replaced whenever something better is known."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgeport.errors import OutputError
from edgeport.pipeline.artifacts import ARTIFACT_FILE

__all__ = ["BEST", "make_room"]

BEST = "best"
_MANIFEST = "manifest.json"


def make_room(folder: Path) -> None:
    """The output folder, before minutes are spent.

    Raises:
        OutputError: Something else is there, or it can't be written.

    """
    best = folder / BEST
    foreign = [path for path in (folder, best) if path.is_symlink() or (path.exists() and not path.is_dir())]
    if not foreign and best.is_dir() and not any((best / name).is_file() for name in (ARTIFACT_FILE, _MANIFEST)):
        foreign = [best]
    if foreign:
        raise OutputError(
            asked=f"write what is found to {folder}",
            found=f"something else in the place of {foreign[0]}",
            fix="name another folder",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            asked=f"write what is found to {folder}",
            found=f"that it can't be written to ({error.strerror or error})",
            fix="name a folder where you may write",
        ) from error
