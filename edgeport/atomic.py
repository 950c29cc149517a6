"""Files and folders that appear under their name whole or not at all, on disk before they do."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_file", "atomic_folder", "atomic_write", "sync"]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write, which takes its place when the block ends well; a link there is replaced.

    It has the ending of `path`, since some writers add their own to a name that lacks it. Its folder must be there.

    Raises:
        OSError: It can't be written; what was there before still is.

    """
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield draft
        sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Writes a file in one step; text as UTF-8, its line ends as they are.

    Raises:
        OSError: As of `atomic_file`.

    """
    with atomic_file(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` when the block ends well.

    Args:
        path: An empty folder there gives way; a full one only with `overwrite`, and comes back where the new one fails.
            The folder around it must be there.
        overwrite: Whether what is there is replaced.

    Raises:
        OSError: It can't be written, or there is a full folder.

    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        draft, old = Path(scratch) / "new", Path(scratch) / "old"
        draft.mkdir()
        yield draft
        for folder, _, names in os.walk(draft):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        try:
            if path.exists() and overwrite:
                path.replace(old)
            elif path.exists():
                path.rmdir()  # Windows renames over no folder
            draft.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.replace(path)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """Waits until the file, or the names in the folder, are on disk."""
    if os.name == "nt" and path.is_dir():  # Windows can't open folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
