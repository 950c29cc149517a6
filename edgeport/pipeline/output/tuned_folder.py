"""The output folder of a search, whose `best/` is replaced whenever something better is known."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeport.errors import OutputError
from edgeport.pipeline.output.artifact_folder import ARTIFACT_FILE

__all__ = ["BEST", "make_room"]

BEST = "best"
_MANIFEST = "manifest.json"


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
