"""Files of a folder, in an order that depends on their names alone; nothing outside of it is read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeport.contracts import digest_file
from edgeport.errors import SamplesError

__all__ = ["Folder", "FolderFile", "digest_folder", "list_folder"]

_KINDS = {
    **dict.fromkeys((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"), "images"),
    ".wav": "sounds",
}
_LITTER = ("thumbs.db", "desktop.ini")
"""What desktops leave in folders of images; names that begin with a dot are passed over too."""


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """One file.

    Attributes:
        name: Within the folder, with slashes.
        path: Where it is.
        label: Name of its class folder; empty where there is none.

    """

    name: str
    path: Path
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """All files.

    Attributes:
        path: The folder.
        files: In the order of their names, class by class.
        labels: Names of the class folders in order, also of empty ones; empty where files lie in the folder itself.
        kind: "images" or "sounds".

    """

    path: Path
    files: tuple[FolderFile, ...]
    labels: tuple[str, ...]
    kind: str


def list_folder(path: Path) -> Folder:
    """Looks at a folder of images or WAV files, or at one with a folder of them for each class.

    Raises:
        SamplesError: It is empty; or something in it is neither an image nor a sound, no regular file, a link that
            leads out of the folder, or a folder inside a class's folder; or files lie beside class folders.

    """
    entries = _entries(path, path)
    folders = [entry for entry in entries if entry.is_dir()]
    loose = [entry for entry in entries if not entry.is_dir()]
    if folders and loose:
        raise _wrong(
            path,
            f"the file {loose[0].name!r} beside the folder {folders[0].name!r}",
            "put every file into the folder of its class, or all of them into one folder",
        )
    files = [FolderFile(name=entry.name, path=entry) for entry in loose]
    for folder in folders:
        for entry in _entries(folder, path):
            if entry.is_dir():
                raise _wrong(path, f"a folder {folder.name}/{entry.name!r}", "let class folders hold files only")
            files.append(FolderFile(name=f"{folder.name}/{entry.name}", path=entry, label=folder.name))
    if not files:
        raise _wrong(path, "no file in it", "put images or .wav files there", problem="empty")
    kinds = {_kind(path, file): file for file in reversed(files)}
    if len(kinds) > 1:
        names = " and ".join(repr(file.name) for file in kinds.values())
        raise _wrong(path, f"images and sounds: {names}", "keep them in folders of their own")
    return Folder(path=path, files=tuple(files), labels=tuple(f.name for f in folders), kind=next(iter(kinds)))


def digest_folder(folder: Folder) -> str:
    """SHA-256, hexadecimal, over the names and contents of all files."""
    whole = hashlib.sha256()
    for label in folder.labels:
        whole.update(f"{label!r}/\n".encode())
    for file in folder.files:
        whole.update(f"{file.name!r} {digest_file(file.path)}\n".encode())
    return whole.hexdigest()


def class_indices(folder: Folder, classes: Sequence[str]) -> dict[str, int]:
    """Index of each class folder: in the order of the given class names, or else in that of the folders' names.

    Raises:
        SamplesError: The names do not fit the folders.

    """
    strangers = [label for label in folder.labels if label not in classes]
    if not classes or (len(strangers) == len(folder.labels) == len(classes)):
        # Names for people, such as "tabby cat" for a folder n02123045: they stand in the order of the folders.
        return {label: index for index, label in enumerate(folder.labels)}
    if strangers:
        raise _wrong(
            folder.path,
            f"class folder {strangers[0]!r}, which is none of the {len(classes)} class names in [data] labels",
            "name the folders as the classes, or give as many class names as there are folders, in their order",
            problem="labels",
        )
    return {label: list(classes).index(label) for label in folder.labels}


def _entries(folder: Path, root: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 (names, not paths)
    except OSError as error:
        raise _wrong(root, f"{folder.name!r}: {error.strerror or error}", "give a folder that you may read") from error
    entries = [folder / name for name in names if not name.startswith(".") and name.lower() not in _LITTER]
    for entry in entries:
        _check_entry(entry, root)
    return entries


def _check_entry(entry: Path, root: Path) -> None:
    name = entry.relative_to(root).as_posix()
    try:
        mode = entry.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = entry.resolve(strict=True)
            if not target.is_relative_to(root.resolve()) or not target.is_file():
                raise _wrong(
                    root,
                    f"{name!r}, a link {'to a folder' if target.is_dir() else 'out of the folder'}",
                    "put the files themselves there: what a link leads to may be anything",
                    problem="link",
                )
            mode = target.stat().st_mode
    except (OSError, RuntimeError) as error:  # Python before 3.13 calls a loop of links a RuntimeError
        found = getattr(error, "strerror", None) or "a loop of links"
        raise _wrong(root, f"{name!r}: {found}", "remove it, or mend it") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _wrong(root, f"{name!r}, which is no regular file", "keep images or .wav files only in that folder")


def _kind(root: Path, file: FolderFile) -> str:
    suffix = Path(file.name).suffix.lower()
    if suffix not in _KINDS:
        raise _wrong(
            root,
            f"{file.name!r}, neither an image ({', '.join(s for s, k in _KINDS.items() if k == 'images')}) nor .wav",
            "move it out of the folder",
        )
    return _KINDS[suffix]


def _wrong(path: Path, found: str, fix: str, problem: str = "file") -> SamplesError:
    return SamplesError(
        asked=f"take samples from the folder {path.name!r}", found=found, fix=fix, details={"problem": problem}
    )
