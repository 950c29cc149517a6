"""`python agent.pyz serve ROOT`: what a host asks for, one request after the other, until it goes away.

Requests and answers are lines of JSON on stdin and stdout (see `channel`). An answer has either a `value` or an
`error`, and lines with a `tick` may come before it while work goes on. Needs no numpy: jobs run in processes of their
own, with the agent that their session is packed in.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Tuple

from edgeport.devices.agent.facts import device_facts
from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.file_cache import FileCache
from edgeport.devices.agent.machine_lock import pause, take_turn
from edgeport.devices.agent.probing import probe_device
from edgeport.devices.agent.python_env import prepare
from edgeport.devices.agent.rpc import Channel, Frame, LinkLostError
from edgeport.devices.agent.supervisor import run_watched

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_lock: Any = getattr(fcntl, "flock", None)

PROTOCOL = 1
HELLO = "\x1eedgeport "
"""Before the first lines of either program, so that what a login shell prints is told from them."""
LARGEST_RESULT = 64 << 20
_PIECE_BYTES = 4 << 20

Answer = Tuple[Any, bytes]


def main(arguments: list[str]) -> int:
    """Serves the host at stdin and stdout; the folder is `arguments[0]`.

    Returns:
        0 when the host has gone, 1 where it asked for what makes no sense.

    """
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    source, sink = os.dup(0), os.dup(1)
    with Path(os.devnull).open("r+b") as null:  # nothing that is loaded later may read or write the link
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)
    os.write(sink, HELLO.encode("ascii"))
    channel = Channel(source, sink)
    try:
        with _Place(Path(arguments[0])) as place:
            channel.send({"hello": PROTOCOL, "pid": os.getpid(), "python": sys.executable})
            Server(channel, place).serve()
    except LinkLostError:
        return 0
    except ValueError as error:
        sys.stderr.write(f"edgeport agent: {error}\n")
        return 1
    return 0


def _leave(number: int, frame: Any) -> None:  # noqa: ARG001 (as signal handlers are called)
    raise SystemExit(128 + number)


class _Place:
    """The folder, and in it one of this session, which is removed in the end; and those of sessions that died.

    Attributes:
        root: Of all sessions.
        session: Of this one.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.session = root / "sessions" / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock: int | None = None

    def __enter__(self) -> _Place:  # noqa: PYI034 (typing.Self is not in Python 3.8)
        """Makes the session's folder, and locks it for as long as this process lives."""
        sessions = self.session.parent
        sessions.mkdir(parents=True, exist_ok=True)
        for old in list(sessions.iterdir()):
            descriptor = _locked(old / "lock")
            if descriptor is not None:
                shutil.rmtree(str(old), ignore_errors=True)
                os.close(descriptor)
        self.session.mkdir()
        self._lock = _locked(self.session / "lock", create=True)
        return self

    def __exit__(self, *_error: object) -> None:
        """Removes it."""
        shutil.rmtree(str(self.session), ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def _locked(path: Path, *, create: bool = False) -> int | None:
    """Descriptor of a file that only this process has locked; None where another one has, or there is none."""
    try:
        descriptor = os.open(str(path), os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except OSError:
        return None
    if _lock is None:
        return descriptor
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Server:
    """Answers requests.

    Args:
        channel: To the host.
        place: Folders.

    """

    def __init__(self, channel: Channel, place: _Place) -> None:
        self._channel = channel
        self._place = place
        self._files = FileCache(place.root, place.session, channel.tick)
        # One visible table: what is asked to the function that answers.
        self._answers: dict[str, Callable[[Frame], Answer]] = {
            "clean": self._clean,
            "discard": self._discard,
            "facts": self._facts,
            "place": self._place_files,
            "prepare": self._prepare,
            "probe": self._probe,
            "put": self._put,
            "read": self._read,
            "reserve": self._reserve,
            "run": self._run,
        }

    def serve(self) -> None:
        """Until the host goes away.

        Raises:
            LinkLostError: It did.
            ValueError: It asked for something that there is not.

        """
        while True:
            request = self._channel.receive()
            answer = self._answers.get(str(request.get("ask")))
            if answer is None:
                message = "asked for {!r}".format(request.get("ask"))
                raise ValueError(message)
            try:
                value, payload = answer(request)
            except JobError as error:
                self._channel.send({"error": error.record})
                continue
            except OSError as error:
                asked = "{} on the device".format(request["ask"])
                said = f"{type(error).__name__}: {error}"
                record = JobError("DEVICE_FAILED", asked, said, "see what its disk and user allow").record
                self._channel.send({"error": record})
                continue
            self._channel.send({"value": value}, payload)

    def _facts(self, _request: Frame) -> Answer:
        return device_facts(), b""

    def _probe(self, _request: Frame) -> Answer:
        return {**probe_device(), "prepared": (self._place.root / "environments" / "current").exists()}, b""

    def _prepare(self, request: Frame) -> Answer:
        return prepare(self._place.root, request["packages"], request["wheels"], self._channel), b""

    def _put(self, request: Frame) -> Answer:
        count = request["bytes"]
        found = self._files.put(
            request["digest"],
            request["size"],
            request["offset"],
            lambda keep: self._channel.receive_bytes(count, keep),
        )
        return found, b""

    def _place_files(self, request: Frame) -> Answer:
        return self._files.place(request["tree"], request["name"], request["folder"], request["files"]), b""

    def _reserve(self, request: Frame) -> Answer:
        folder = self._place.session / "outputs" / secrets.token_hex(8)
        folder.mkdir(parents=True)
        name = request["name"]
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise JobError("DEVICE_FAILED", "reserve a place", f"no name: {name!r}", "give a plain name")
        return {"path": str(folder / name)}, b""

    def _discard(self, request: Frame) -> Answer:
        folder = Path(request["path"]).parent
        if folder.parent == self._place.session / "outputs":
            shutil.rmtree(str(folder), ignore_errors=True)
        return {}, b""

    def _read(self, request: Frame) -> Answer:
        """A piece of a file of ours; its size goes with each, so that the host sees one that changes."""
        path = Path(request["path"])
        try:
            path.resolve().relative_to(self._place.root.resolve())
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(request["offset"])
                return {"size": size}, file.read(_PIECE_BYTES)
        except (OSError, ValueError) as error:
            raise JobError("DEVICE_FAILED", "bring " + path.name, "no such file", "run the job again") from error

    def _clean(self, _request: Frame) -> Answer:
        """Everything that is kept here, but for what another session may be using."""
        busy = [one.name for one in self._place.session.parent.iterdir() if one != self._place.session and one.is_dir()]
        if busy:
            raise JobError(
                "DEVICE_FAILED",
                "remove what Edgeport keeps on the device",
                "{} other session{} of Edgeport at work there".format(len(busy), "s" if len(busy) > 1 else ""),
                "wait for it to end",
            )
        freed = 0
        for path in list(self._place.root.iterdir()):
            if path == self._place.session.parent:
                continue
            freed += _size_bytes(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(str(path), ignore_errors=True)
            else:
                path.unlink()
            self._channel.tick()
        self._files = FileCache(self._place.root, self._place.session, self._channel.tick)
        return {"freed_bytes": freed, "folder": str(self._place.root)}, b""

    def _run(self, request: Frame) -> Answer:
        job = json.loads(request["job"])
        folder = self._place.session / "jobs" / secrets.token_hex(8)
        folder.mkdir(parents=True)
        lock = self._alone() if job["kind"] == "time" else None
        try:
            (folder / "job.json").write_text(request["job"], encoding="utf-8")
            result = folder / "result.json"
            command = [sys.executable, request["agent"], str(folder / "job.json"), str(result)]
            ended = run_watched(command, folder, job["limits"], self._channel)
            try:
                size = result.stat().st_size
            except FileNotFoundError:
                return {**ended, "result": None}, b""
            payload = result.read_bytes() if size <= LARGEST_RESULT else b""
            return {**ended, "result": size}, payload
        finally:
            if lock is not None:
                os.close(lock)
            shutil.rmtree(str(folder), ignore_errors=True)

    def _alone(self) -> int | None:
        """Waits until nobody else measures here, and lets the host know that it waits."""
        waits = [{"tick": 1, "waits": True}]

        def wait() -> None:
            if waits:
                self._channel.send(waits.pop())
            pause()
            self._channel.tick()

        def warn(_: str) -> None:
            self._channel.send({"tick": 1, "no_lock": True})

        return take_turn(self._place.root, wait, warn)


def _size_bytes(path: Path) -> int:
    """Of a file or all files below a folder; links count nothing, and a file of several names once."""
    seen: dict[tuple[int, int], int] = {}
    for one in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        status = one.lstat()
        seen[status.st_dev, status.st_ino] = status.st_size if one.is_file() and not one.is_symlink() else 0
    return sum(seen.values())
