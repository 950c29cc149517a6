"""Files that a host brought here, each under the SHA-256 of its bytes, so that none is brought twice."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any, Callable

from edgeport.devices.agent.failure import JobError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_lock: Any = getattr(fcntl, "flock", None)

_CHUNK_BYTES = 1 << 20
_DIGEST = re.compile("[0-9a-f]{64}")

Nothing = Callable[[], None]
Keep = Callable[[bytes], None]


class FileCache:
    """A folder with `files/DIGEST`, `parts/DIGEST` (what came so far) and `trees/DIGEST/NAME` (links to files).

    Args:
        root: The folder.
        own: A folder of this session, which is removed when it ends.
        tick: Called between pieces of long work.

    """

    def __init__(self, root: Path, own: Path, tick: Nothing = lambda: None) -> None:
        self._root = root
        self._own = own
        self._tick = tick
        self._checked: dict[str, tuple[int, int]] = {}
        self._parts: dict[str, _Part] = {}
        for name in ("files", "parts", "trees"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def put(self, digest: str, size: int, offset: int, write: Callable[[Keep], None]) -> dict[str, Any]:
        """Adds bytes to a file.

        Args:
            digest: SHA-256 of the whole file.
            size: Of the whole file, bytes.
            offset: Where these bytes begin; where fewer came before, they are dropped.
            write: Called with a function that takes the bytes, piece by piece. It is called whatever happens, so that
                what follows on the link is no part of the file.

        Returns:
            `whole`: the file is; `size`: how much of it is here.

        Raises:
            JobError: The disk is full, or the bytes are not those of the digest.

        """
        if digest not in self._parts:
            self._parts[digest] = _Part(self._root / "parts" / _safe(digest), self._own)
        part = self._parts[digest]
        part.begin(offset)
        write(part.keep)
        if part.failed is None and part.size < size:
            return {"whole": False, "size": part.size}
        del self._parts[digest]
        try:
            part.finish()
            if part.failed is not None:
                raise _not_written(part.failed)
            if part.size != size or self._digest(part.path) != digest:
                part.path.unlink()
                raise JobError(
                    "DEVICE_FAILED",
                    "keep a file of digest " + digest[:12],
                    "other bytes: it was changed while it was sent",
                    "push it again",
                )
            part.path.chmod(0o444)
            part.path.replace(self._root / "files" / digest)
        finally:
            part.close()
        return {"whole": True, "size": size}

    def place(self, tree: str, name: str, folder: bool, files: list[list[Any]]) -> dict[str, Any]:
        """A file, or a folder of files, under its own name.

        Args:
            tree: Digest that stands for names and files.
            name: Of the file or folder.
            folder: It is a folder; else `files` has one entry, and its name does not count.
            files: Relative name, digest and size of each.

        Returns:
            `path`; or `missing`: digest to the number of bytes that came so far.

        Raises:
            JobError: A name leads out of the folder, or the disk is full.

        """
        missing = {digest: self._so_far(digest) for _, digest, size in files if not self._is_whole(digest, size)}
        if missing:
            return {"missing": missing}
        place = self._root / "trees" / _safe(tree)
        path = place / _plain(name)
        if place.exists() and self._is_placed(path, folder, files):
            return {"path": str(path)}
        building = place.with_name(f"{tree}.{secrets.token_hex(8)}.part")
        try:
            target = building / _plain(name)
            (target if folder else building).mkdir(parents=True)
            for relative, digest, _ in files:
                to = target.joinpath(*_parts(relative)) if folder else target
                to.parent.mkdir(parents=True, exist_ok=True)
                _link(self._root / "files" / digest, to)
            shutil.rmtree(str(place), ignore_errors=True)
            building.replace(place)
        except OSError as error:
            if not self._is_placed(path, folder, files):  # another session may have been faster
                raise _not_written(error) from error
        finally:
            shutil.rmtree(str(building), ignore_errors=True)
        return {"path": str(path)}

    def _is_placed(self, path: Path, folder: bool, files: list[list[Any]]) -> bool:
        """Every file is there, the very one that is kept, and nothing else."""
        wanted = {(path.joinpath(*_parts(name)) if folder else path): digest for name, digest, _ in files}
        found = {one for one in path.rglob("*") if not one.is_dir()} if folder else {path} if path.is_file() else set()
        if found != set(wanted):
            return False
        return all(self._has(one, digest) for one, digest in wanted.items())

    def _has(self, path: Path, digest: str) -> bool:
        """It is the file that is kept (which was looked at), or a copy of it, where a disk has no links."""
        try:
            return not path.is_symlink() and (
                path.samefile(self._root / "files" / digest) or self._digest(path) == digest
            )
        except OSError:
            return False

    def _is_whole(self, digest: str, size: int) -> bool:
        """It is here, and its bytes are what they were; looked at once, while nobody writes to it."""
        path = self._root / "files" / _safe(digest)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return False
        seen = (status.st_size, status.st_mtime_ns)
        if self._checked.get(digest) == seen:
            return True
        if status.st_size == size and not path.is_symlink() and self._digest(path) == digest:
            self._checked[digest] = seen
            return True
        path.unlink()  # a disk that forgets: it is sent again
        return False

    def _so_far(self, digest: str) -> int:
        try:
            return (self._root / "parts" / digest).lstat().st_size
        except FileNotFoundError:
            return 0

    def _digest(self, path: Path) -> str:
        state = hashlib.sha256()
        with path.open("rb") as file:
            chunk = file.read(_CHUNK_BYTES)
            while chunk:
                state.update(chunk)
                self._tick()
                chunk = file.read(_CHUNK_BYTES)
        return state.hexdigest()


class _Part:
    """What came of a file so far; takes bytes whatever happens, and remembers what went wrong first.

    Where another session is writing the same file, this one writes a file of its own, from the beginning.

    Attributes:
        path: Of the file.
        size: Bytes in it.
        failed: What went wrong first.

    """

    def __init__(self, path: Path, own: Path) -> None:
        self.path = path
        self.size = 0
        self.failed: OSError | None = None
        self._taken = True
        self._descriptor = -1
        try:
            self._descriptor = _opened(path)
            if not _is_mine(self._descriptor, path):
                os.close(self._descriptor)
                self.path = own / path.name
                self._descriptor = _opened(self.path)
            self.size = os.fstat(self._descriptor).st_size
        except OSError as error:
            self.failed = error

    def begin(self, offset: int) -> None:
        """The next bytes belong there; they are dropped if that is beyond what came."""
        self._taken = offset <= self.size
        if self.failed is None and self._taken:
            os.ftruncate(self._descriptor, offset)
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            self.size = offset

    def keep(self, piece: bytes) -> None:
        """Writes a piece."""
        data = memoryview(piece)
        try:
            while data and self._taken and self.failed is None:
                written = os.write(self._descriptor, data)
                self.size += written
                data = data[written:]
        except OSError as error:
            self.failed = error

    def finish(self) -> None:
        """Puts it on the disk; or, on a full one, makes room for what may be running."""
        try:
            if self.failed is None:
                os.fsync(self._descriptor)
            elif _is_full(self.failed) and self._descriptor >= 0:
                self.path.unlink()
        except OSError as error:
            self.failed = self.failed or error

    def close(self) -> None:
        """Lets others write."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _opened(path: Path) -> int:
    return os.open(str(path), os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _is_mine(descriptor: int, path: Path) -> bool:
    """Nobody else has it locked, and it was not moved to its place before this lock."""
    try:
        if _lock is not None:
            _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except OSError:
        return False


def _link(source: Path, target: Path) -> None:
    try:
        os.link(str(source), str(target))
    except OSError:  # a card with FAT has no links, and Android allows none
        shutil.copyfile(str(source), str(target))


def _safe(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise JobError("DEVICE_FAILED", "keep a file", f"no digest: {digest!r}", "push it again")
    return digest


def _plain(name: str) -> str:
    """A name that is no path; what else it holds is its own business."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise JobError("DEVICE_FAILED", "keep a file", f"no name: {name!r}", "give it a plain name")
    return name


def _parts(relative: str) -> list[str]:
    return [_plain(part) for part in relative.split("/")]


def _not_written(error: OSError) -> JobError:
    full = _is_full(error)
    return JobError(
        "DEVICE_FAILED",
        "keep a file on the device",
        "no space left there" if full else f"{type(error).__name__}: {error}",
        "free space there, or remove what Edgeport left: edgeport devices clean NAME"
        if full
        else "make the folder writable for this user",
    )


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
