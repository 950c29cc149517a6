"""One measurement at a time on a machine, whoever measures: two would disturb each other.

A lock on a file in the machine's folder for temporary files, so that all users, and hosts that came over a link, share
it. The system lets go of it when the process that has it ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator

try:
    import fcntl
except ImportError:  # Windows: there measurements may meet
    fcntl = None  # type: ignore[assignment]

FILE = "edgeport-measuring.lock"
FOLDER = "EDGEPORT_LOCK_DIR"
"""Variable that names another folder for the file: of a container that shares its machine with others, say."""
POLL_S = 0.2

# A file of another user is opened, never made anew or followed elsewhere: /tmp is everybody's.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_flock = getattr(fcntl, "flock", None)


def take_turn(own: Path, wait: Callable[[], None], warn: Callable[[str], None] = lambda _: None) -> int | None:
    """Waits until nobody else measures on this machine.

    Args:
        own: A folder of this user's, for the file where there is none for everybody.
        wait: Called again and again while somebody else measures, and pauses; may raise.
        warn: Called with the folder that the environment names, where no lock can be had in it: then this user's own
            is taken, and who shares the other is not waited for.

    Returns:
        A file descriptor: the turn is over when it is closed. None where the system locks no files.

    """
    if _flock is None:
        return None
    for folder in _folders(own):
        descriptor = _opened(folder / FILE)
        if descriptor is None:
            _tell(folder, warn)
            continue
        try:
            locks = _locks(descriptor)
            while locks is False:
                wait()
                locks = _locks(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if locks:
            return descriptor
        os.close(descriptor)
        _tell(folder, warn)
    return None


def pause() -> None:
    """A `wait` that only waits."""
    time.sleep(POLL_S)


def _tell(folder: Path, warn: Callable[[str], None]) -> None:
    if str(folder) == str(Path(os.environ.get(FOLDER) or os.devnull)):
        warn(str(folder))


def _folders(own: Path) -> Iterator[Path]:
    named = os.environ.get(FOLDER)
    if named:
        yield Path(named)
    else:
        with contextlib.suppress(OSError):  # there is none that this user may write
            yield Path(tempfile.gettempdir())
    yield own


def _opened(path: Path) -> int | None:
    for flags in (_FLAGS, _FLAGS | os.O_CREAT | os.O_EXCL, _FLAGS):
        try:
            descriptor = os.open(str(path), flags, 0o644)
        except (FileNotFoundError, FileExistsError):  # another process may make it meanwhile
            continue
        except OSError:
            return None
        if flags & os.O_CREAT:
            with contextlib.suppress(OSError):  # a file system without modes
                os.fchmod(descriptor, 0o644)  # whatever this user's umask is, the file is everybody's
        return descriptor
    return None


def _locks(descriptor: int) -> bool | None:
    """Whether it is locked now; None where the file system has no locks."""
    try:
        _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[misc]
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True
