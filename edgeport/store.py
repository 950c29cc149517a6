"""Finished work, kept by what it was made from: the same step, key and code are answered without doing it again.

On disk, per entry::

    STEP/DIGEST.json          the record: what was asked, and SHA-256 and size of every file
    STEP/DIGEST.xxxxxxxx/     the files
    STEP/DIGEST.lock          held while somebody builds; the system frees it when its holder dies
    STEP/DIGEST.note          what else the newest entry of a key rests on, by name (`get_or_build_watched`)
    quarantine/               what was found damaged

The record is written last and atomically, and names a folder that never changes afterwards. So a process that is
killed at any moment leaves the old entry, the new one, or none. A note is replaced atomically, after its entry.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgeport.atomic import atomic_write, sync
from edgeport.code_version import code_version
from edgeport.contracts.serialise import canonical, digest_file, digest_json
from edgeport.errors import StoreError

__all__ = ["Store", "default_root"]

_log = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_STEP_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_VALUE = "value.json"
_QUARANTINE = "quarantine"

T = TypeVar("T")


def default_root() -> Path:
    """`EDGEPORT_STORE` where it is set, else the user's cache folder."""
    import platformdirs

    named = os.environ.get("EDGEPORT_STORE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("edgeport"))


class _DamagedError(Exception):
    """An entry that must not be served."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the entry of one key lies."""

    step: str
    digest: str
    folder: Path
    asked: dict[str, Any]

    @property
    def record(self) -> Path:
        return self.folder / f"{self.digest}.json"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.digest}.lock"

    @property
    def note(self) -> Path:
        return self.folder / f"{self.digest}.note"


class Store:
    """A folder of finished work that any number of processes may share.

    Args:
        root: The folder; `default_root()` where it is None.
        fresh: Answer only from what this object built; what others built is built again, and replaced.

    Attributes:
        hits: How many calls were answered without building, by this object.

    """

    def __init__(self, root: Path | None = None, *, fresh: bool = False) -> None:
        self.root = Path(root) if root is not None else default_root()
        self.hits = 0
        self._fresh = fresh
        self._built: set[str] = set()
        self._counting = threading.Lock()

    def find(self, step: str, key: object) -> Path | None:
        """The folder of the entry, verified, or None where there is none (a damaged one is set aside first)."""
        place = self._place(step, key)
        try:
            return self._read(place)
        except _DamagedError:
            with self._locked(place):  # somebody may have rebuilt it by now
                return self._read_or_quarantine(place)

    def get_or_build(self, step: str, key: object, build: Callable[[Path], None]) -> Path:
        """The folder of the entry; built by `build` where there is none.

        Of two processes that ask for one key at a time, one builds and the other waits and reads.

        Args:
            step: What kind of work it is ("export"): small letters, digits and dashes.
            key: JSON values that name everything the result depends on: digests of inputs, options, versions of
                runtimes. Edgeport's own code is part of every key.
            build: Fills the empty folder that it is given. Only regular files are kept; none may be a link.

        Returns:
            The folder. Treat it as read-only: an entry that was changed is damaged, and will be built again.

        Raises:
            StoreError: The store can't be written (no space, no permission), or `build` left a link.

        """
        place = self._place(step, key)
        with self._locked(place):
            found = self._read_or_quarantine(place)
            return self._build(place, build) if found is None else self._hit(found)

    def get_or_build_watched(
        self,
        step: str,
        key: object,
        build: Callable[[Path], dict[str, str]],
        state_of: Callable[[list[str]], dict[str, str]],
    ) -> Path:
        """As `get_or_build`, for work of which only the doing tells what else it rests on (the files that it reads).

        The names of those things are noted under the key; the entry lies under the key and their state. So the next
        call looks at the present state of the noted names, and an old state that comes back finds its old entry.

        Args:
            step: As in `get_or_build`.
            key: All that is known before.
            build: Fills the empty folder; returns the state, by name, of everything that it rested on.
            state_of: Present state of the things of these names.

        Raises:
            StoreError: As `get_or_build`.

        """
        asked = self._place(step, {"watched": key})
        with self._locked(asked):  # of two that ask for one key, one builds
            names = _read_note(asked)
            if names is not None:
                place = self._place(step, {"watched": key, "rests_on": state_of(names)})
                with self._locked(place):
                    found = self._read_or_quarantine(place)
                if found is not None:
                    return self._hit(found)
            with self._filled(asked, build) as (partial, rests_on):
                place = self._place(step, {"watched": key, "rests_on": rests_on})
                with self._locked(place):
                    found = self._read_or_quarantine(place)
                    if found is None:
                        self._remove_leftovers(place)
                        found = self._keep(place, partial)
                self._write_note(asked, sorted(rests_on))
            return found

    def find_watched(self, step: str, key: object, state_of: Callable[[list[str]], dict[str, str]]) -> Path | None:
        """The entry that `get_or_build_watched` would answer with, or None; arguments as there."""
        names = _read_note(self._place(step, {"watched": key}))
        return None if names is None else self.find(step, {"watched": key, "rests_on": state_of(names)})

    def get_or_build_json(self, step: str, key: object, build: Callable[[], Any]) -> Any:
        """As `get_or_build`, for a result that is JSON values."""

        def write(folder: Path) -> None:
            (folder / _VALUE).write_bytes(canonical(build()))

        folder = self.get_or_build(step, key, write)
        return json.loads((folder / _VALUE).read_bytes())

    def _place(self, step: str, key: object) -> _Place:
        if not step or set(step) - _STEP_LETTERS or step == _QUARANTINE:
            raise StoreError(
                asked=f"keep the result of step {step!r}",
                found="a name that is taken, or not made of small letters, digits and dashes",
                fix="rename the step",
            )
        try:
            values = json.loads(canonical(key))
        except (TypeError, ValueError) as error:
            raise StoreError(
                asked=f"keep the result of step {step!r}",
                found=f"a key that is not JSON ({error})",
                fix="name inputs by their digests, and options by strings and numbers",
            ) from error
        asked = {"step": step, "key": values, "code": code_version()}
        return _Place(step=step, digest=digest_json(asked), folder=self.root / step, asked=asked)

    @contextlib.contextmanager
    def _locked(self, place: _Place) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(place.lock, poll_interval=0.05)
        with _as_store_error(f"lock {place.lock}"):
            place.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                _log.info("waiting for another process that builds the same %s", place.step)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _read_or_quarantine(self, place: _Place) -> Path | None:
        """Only with the lock held."""
        try:
            return self._read(place)
        except _DamagedError as damage:
            kept = self._quarantine(place)
            _log.warning(
                "the stored result of step %s is damaged (%s); it is built again, the damaged one lies in %s",
                place.step,
                damage,
                kept,
            )
            return None

    def _read(self, place: _Place) -> Path | None:
        if self._fresh and place.digest not in self._built:
            return None
        try:
            data = place.record.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _DamagedError(f"its record can't be read: {error}") from error
        record = _parse(data)
        if record.get("schema_version") != _SCHEMA_VERSION:
            raise _DamagedError(f"schema version {record.get('schema_version')!r}, this release has {_SCHEMA_VERSION}")
        if record.get("digest") != _record_digest(record) or record.get("asked") != place.asked:
            raise _DamagedError("its record does not fit its own digest or key")
        folder = place.folder / Path(record["folder"]).name
        try:
            found = _inventory(folder)
        except OSError as error:
            raise _DamagedError(f"a file can't be read: {error}") from error
        if found != record["files"]:
            names = sorted(name for name in {*found, *record["files"]} if found.get(name) != record["files"].get(name))
            raise _DamagedError(f"changed, missing or foreign files: {', '.join(names[:5])}")
        return folder

    def _hit(self, folder: Path) -> Path:
        with self._counting:
            self.hits += 1
        return folder

    def _build(self, place: _Place, build: Callable[[Path], None]) -> Path:
        """Only with the lock held, and no valid entry there."""
        with self._filled(place, build) as (partial, _):
            return self._keep(place, partial)

    @contextlib.contextmanager
    def _filled(self, place: _Place, build: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
        """A folder that `build` has filled, and what it returned; removed again unless it is kept."""
        self._remove_leftovers(place)
        partial = place.folder / f"{place.digest}.{secrets.token_hex(4)}.partial"
        with _as_store_error(f"make {partial}"):
            partial.mkdir()
        try:
            yield partial, build(partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _keep(self, place: _Place, partial: Path) -> Path:
        """Moves a filled folder to its place, then writes its record."""
        name = f"{place.digest}.{secrets.token_hex(4)}"
        folder = place.folder / name
        with _as_store_error(f"keep the result of step {place.step}"):
            files = _inventory(partial, to_disk=True)
            partial.replace(folder)
            try:
                sync(place.folder)
                self._write_record(place, name, files)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        self._built.add(place.digest)
        return folder

    def _write_note(self, place: _Place, names: list[str]) -> None:
        note = {"names": names, "digest": digest_json(names)}
        with _as_store_error(f"note what step {place.step} rests on"):
            atomic_write(place.note, canonical(note))

    def _write_record(self, place: _Place, folder: str, files: dict[str, list[object]]) -> None:
        record: dict[str, Any] = {
            "schema_version": _SCHEMA_VERSION,
            "asked": place.asked,
            "folder": folder,
            "files": files,
        }
        record["digest"] = _record_digest(record)
        atomic_write(place.record, canonical(record))

    def _remove_leftovers(self, place: _Place) -> None:
        """What builders of this key left when they were killed; whoever holds the lock knows that none is at work.

        Where an entry is to be replaced, its files stay until the next time: another run may read them now.
        """
        if self._fresh:
            return
        for path in place.folder.glob(f"*{place.digest}.*"):  # a dot before what was not written to its end
            if path in (place.lock, place.note):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _quarantine(self, place: _Place) -> Path:
        """Moves the record and every folder of this key aside."""
        kept = self.root / _QUARANTINE / f"{place.step}-{place.digest[:16]}-{secrets.token_hex(4)}"
        with _as_store_error(f"set aside a damaged entry in {kept}"):
            kept.mkdir(parents=True)
            for path in place.folder.glob(f"{place.digest}.*"):
                if path != place.lock:
                    path.rename(kept / path.name)
        return kept


def _parse(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"its record is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise _DamagedError("its record is no JSON object")
    return record


def _record_digest(record: dict[str, Any]) -> str:
    return digest_json({name: value for name, value in record.items() if name != "digest"})


def _read_note(place: _Place) -> list[str] | None:
    """The noted names; None where there is no note, or a damaged one, which costs no more than building again."""
    try:
        note = _parse(place.note.read_bytes())
    except (OSError, _DamagedError):
        return None
    names = note.get("names")
    return names if isinstance(names, list) and note.get("digest") == digest_json(names) else None


def _inventory(folder: Path, *, to_disk: bool = False) -> dict[str, list[object]]:
    """Size and SHA-256 of every file below the folder, by relative path; written to disk first with `to_disk`.

    Raises:
        OSError: When keeping: something that is neither a folder nor a file of its own.
        _DamagedError: The same, when reading.

    """
    files: dict[str, list[object]] = {}
    wrong = OSError if to_disk else _DamagedError
    for current, folders, names in os.walk(folder):
        for path in (Path(current), *(Path(current, name) for name in folders)):
            if path.is_symlink():
                raise wrong(f"{path.name} is a link, no regular folder")
        for name in names:
            path = Path(current, name)
            state = path.lstat()
            # What has a second name elsewhere can be changed there. (Only when keeping: backups may link what is here.)
            if not stat.S_ISREG(state.st_mode) or (to_disk and state.st_nlink > 1):
                raise wrong(f"{path.name} is a link, or no regular file")
            if to_disk:
                sync(path)
            files[path.relative_to(folder).as_posix()] = [state.st_size, digest_file(path)]
        if to_disk:
            sync(Path(current))
    return files


@contextlib.contextmanager
def _as_store_error(asked: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            asked=asked,
            found=f"{error.strerror or error}",
            fix="free space or fix permissions there, or set EDGEPORT_STORE to another folder",
        ) from error
