"""The folder of one training outside of a run: a stopped one goes on in it, and no two processes share it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeport.errors import UsageError
from edgeport.store import Store

__all__ = ["exclusive_workspace"]


@contextmanager
def exclusive_workspace(store: Store, digest: str, *, fresh: bool, asked: str) -> Iterator[Path]:
    """The folder, for this process alone; removed when the block ends well, and left for the next try when it does not.

    Args:
        store: Where it lies.
        digest: Of all that makes it this training.
        fresh: Without what an earlier try left.
        asked: For the message.

    Raises:
        UsageError: Another process is at it. The system frees the folder when that one ends, in whatever way.

    """
    from filelock import FileLock, Timeout

    root = store.root.absolute()  # a child may work elsewhere
    folder = root / "training" / digest
    lock = FileLock(root / "training-locks" / f"{digest}.lock")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            asked=asked,
            found="another process, which trains the very same",
            fix="wait for it, or stop it: this command goes on where it was",
        ) from error
    try:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
