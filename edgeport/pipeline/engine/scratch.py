"""A run's folder for files that nobody needs after it, swept by the next run should this one be killed.

On disk, below the store's root::

    scratch/lock                 held for moments, while folders are made and swept
    scratch/run-XXXXXXXX/        a run's files
    scratch/run-XXXXXXXX.lock    held by the run; the system frees it when its holder dies
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.errors import StoreError

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["scratch_folder"]


@contextmanager
def scratch_folder(store_root: Path) -> Iterator[Path]:
    """An empty folder that is removed in the end; what killed runs left is removed first.

    Args:
        store_root: Of the store (`Store.root`).

    Yields:
        Its absolute path.

    Raises:
        StoreError: Nothing can be written there.

    """
    base = (store_root / "scratch").absolute()  # child processes may work in another folder
    folder = base / f"run-{secrets.token_hex(4)}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _lock(base / "lock"):  # so nobody finds a folder whose lock is not taken yet
            _sweep(base)
            lock = _lock(_lock_of(folder))
            lock.acquire(timeout=0)
            folder.mkdir()
    except OSError as error:
        raise StoreError(
            asked=f"make a folder for this run's files in {base}",
            found=f"{error.strerror or error}",
            fix="free space or fix permissions there, or set EDGEPORT_STORE to another folder",
        ) from error
    try:
        yield folder
    finally:
        _remove(folder, lock)


def _sweep(base: Path) -> None:
    """Removes the folders of runs that are no more: their locks can be taken. Only with `base`'s lock held."""
    from filelock import Timeout

    for name in {path.stem for path in base.glob("run-*")}:
        lock = _lock(_lock_of(base / name))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # at work
        _remove(base / name, lock)


def _remove(folder: Path, lock: BaseFileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    # Where something could not be removed, the lock stays beside it; the next sweep tries again either way.
    if not folder.exists():
        _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _lock(path: Path) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(path, poll_interval=0.05)
