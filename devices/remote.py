"""A device at the other end of a link; how the link is made (ssh, adb) is not known here."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeport.atomic import atomic_file
from edgeport.contracts import DeviceFacts, DeviceProbe, Job, ProcessTrace, digest_file, dump_json, load_json
from edgeport.devices.agent.machine_lock import FOLDER
from edgeport.devices.agent_archive import build_agent
from edgeport.devices.agent_result import read_trace
from edgeport.devices.connection import Connection, StartingTransport, Transport
from edgeport.devices.exit_diagnosis import no_result, raise_if_dead
from edgeport.errors import DependencyError, DeviceError, UsageError

__all__ = ["RemoteDevice"]

_LOG = logging.getLogger(__name__)
_PIECE_BYTES = 4 << 20
_TRIES = 3
_LONGEST_PATH = 500
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9][A-Za-z0-9.!+_-]*)?")


class RemoteDevice:
    """Runs each job in a fresh process of another machine, with the agent that is brought there.

    One request at a time, whoever asks. A link that broke while nothing was asked is made anew; what was brought there
    is found again by its digest.

    Args:
        name: As the user calls it.
        transport: How it is reached.
        workdir: Where agents and results are kept on this machine.

    """

    def __init__(self, name: str, transport: Transport | StartingTransport, workdir: Path) -> None:
        self._name = name
        self._transport = transport
        self._workdir = workdir.resolve()
        self._link: Connection | None = None
        self._facts: DeviceFacts | None = None
        self._placed: dict[str, str] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the link; nothing of it runs there afterwards. What was brought there stays."""
        with self._lock:
            link, self._link = self._link, None
            if link is not None:
                link.close()

    def facts(self) -> DeviceFacts:
        """Processor, memory, system, runtimes and sensors of the device.

        Raises:
            DeviceError: It can't be reached, or its answer makes no sense.

        """
        with self._lock:
            if self._facts is None:
                value, _ = self._request({"ask": "facts"})
                self._facts = load_json(DeviceFacts, json.dumps({**value, "name": self._name}))
            return self._facts

    def push(self, path: Path) -> str:
        """Brings a file or folder there; files that lie there already are not sent again, nor their first bytes.

        Raises:
            DeviceError: There is no such file, or no room for it.
            DeviceLost: The link broke; what arrived is kept there.

        """
        files = self._files(path)
        name = path.resolve().name
        listed = [[relative, digest, size] for relative, (_, digest, size) in sorted(files.items())]
        folder = path.is_dir()
        tree = hashlib.sha256(json.dumps([name, folder, listed]).encode()).hexdigest()
        with self._lock:
            self._connected()
            if tree in self._placed:
                return self._placed[tree]
            for _ in range(_TRIES):
                value, _ = self._request(
                    {"ask": "place", "tree": tree, "name": name, "folder": folder, "files": listed}
                )
                if "path" in value:
                    self._placed[tree] = str(value["path"])
                    return self._placed[tree]
                sources = {digest: (file, size) for file, digest, size in files.values()}
                for digest, so_far in value["missing"].items():
                    file, size = sources[digest]
                    self._send_file(file, digest, size, so_far if 0 <= so_far < size else 0)
            raise DeviceError(
                asked=f"bring {path.name} to {self._name}",
                found="that files which had arrived were gone again",
                fix="look at the disk of the device",
            )

    def reserve(self, name: str) -> str:
        """A place there for a file that a job writes; it is gone when the link ends.

        Raises:
            DeviceError: It is no plain name.

        """
        return str(self._request({"ask": "reserve", "name": name})[0]["path"])

    def run(self, job: Job) -> ProcessTrace:
        """Runs one job in a fresh process there; while it times, no other host does on that device.

        Raises:
            ChildTimeout, ResourceLimit, BackendCrash: What became of the process.
            BackendError: What the runtime said.
            DependencyError: There is no such runtime; says how to prepare the device.
            DeviceLost: The link broke; the process is ended there too.
            DeviceError: The job's files, or its result, are not what they should be.

        """
        agent = build_agent([job.session], self._workdir / "agents")
        with self._lock:
            there = self.push(agent)
            ask = {"ask": "run", "agent": there, "job": dump_json(job).decode()}
            ended, content = self._connected().request(ask, on_tick=self._say_what_it_told)
        raise_if_dead(job, ended)
        if ended["result"] is None:
            raise no_result(job, int(ended["status"]))
        with tempfile.TemporaryDirectory(dir=_made(self._workdir / "results"), ignore_cleanup_errors=True) as folder:
            result = Path(folder, "result.json")
            result.write_bytes(content)
            try:
                return read_trace(result, job)
            except DependencyError as error:
                raise self._not_installed(error) from error

    def pull(self, path: str, into: Path) -> None:
        """Copies a file from there to `into` (a file's path, or a folder), in one step.

        Raises:
            DeviceError: There is no such file, or it changed meanwhile.
            DeviceLost: The link broke.

        """
        target = into / Path(path).name if into.is_dir() else into
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as draft, draft.open("xb") as file:
            self._read(path, file.write)

    def discard(self, path: str) -> None:
        """Removes what a job wrote in a reserved place.

        Raises:
            DeviceLost: The link broke.

        """
        self._request({"ask": "discard", "path": path})

    def probe(self) -> DeviceProbe:
        """Everything that the device tells of itself.

        Raises:
            DeviceError: It can't be reached, or its answer makes no sense.

        """
        with self._lock:
            value, _ = self._request({"ask": "probe"})
            python = str(self._connected().hello.get("python", ""))[:_LONGEST_PATH]
        facts = {**value["facts"], "name": self._name}
        return load_json(DeviceProbe, json.dumps({**value, "facts": facts, "runs_with": python}))

    def prepare(self, packages: Sequence[str], wheels: Path | None = None) -> DeviceFacts:
        """Makes an isolated environment of Python there, and runs the agent in it from then on.

        Args:
            packages: Distributions, each with or without `==VERSION`.
            wheels: A folder of wheels that is brought there; nothing is fetched from elsewhere then.

        Returns:
            The facts of the device with it.

        Raises:
            UsageError: What is no name of a package.
            DeviceError: It has no venv or no network, or a package is not there for it.
            DeviceLost: The link broke.

        """
        for package in packages:
            if not _PACKAGE.fullmatch(package):
                raise UsageError(
                    asked=f"install {package!r} on {self._name}",
                    found="no name of a package",
                    fix="write a name, or name==version",
                )
        with self._lock:
            there = self.push(wheels) if wheels is not None else None
            self._request({"ask": "prepare", "packages": list(packages), "wheels": there})
            self.close()  # the next link's agent runs in it
            self._facts = None
            return self.facts()

    def clean(self) -> dict[str, Any]:
        """Removes everything that Edgeport keeps there.

        Returns:
            `freed_bytes` and `folder`.

        Raises:
            DeviceError: Another session is at work there.

        """
        with self._lock:
            value, _ = self._request({"ask": "clean"})
            self.close()
            return value

    def _not_installed(self, error: DependencyError) -> DependencyError:
        return DependencyError(
            asked=f"{error.asked} on {self._name}",
            found=error.found,
            fix=(
                f"edgeport devices prepare {self._name} --package numpy --package RUNTIME (no network there: --wheels),"
                f" and see what it has: edgeport devices probe {self._name}"
            ),
            details=error.details,
        )

    def _say_what_it_told(self, tick: dict[str, Any]) -> None:
        if tick.get("waits") is True:
            _LOG.warning("%s: waiting for another measurement there to end", self._name)
        if tick.get("no_lock") is True:
            _LOG.warning(
                "%s: no lock can be had in the folder that %s names there, so who measures by it is not waited for",
                self._name,
                FOLDER,
            )

    def _read(self, path: str, write: Any) -> None:
        size, offset = None, 0
        while size is None or offset < size:
            value, piece = self._request({"ask": "read", "path": path, "offset": offset})
            if (size is not None and value["size"] != size) or (not piece and offset < value["size"]):
                raise DeviceError(
                    asked=f"bring {Path(path).name} from {self._name}",
                    found="that it changed while it was brought",
                    fix="run the job again",
                )
            size = value["size"]
            write(piece)
            offset += len(piece)

    def _files(self, path: Path) -> dict[str, tuple[Path, str, int]]:
        if path.is_file():
            return {"": _entry(path)}
        if not path.is_dir():
            raise DeviceError(
                asked=f"bring {path.name} to {self._name}", found="no such file or folder", fix="build it first"
            )
        return {one.relative_to(path).as_posix(): _entry(one) for one in path.rglob("*") if one.is_file()}

    def _send_file(self, path: Path, digest: str, size: int, offset: int) -> None:
        with path.open("rb") as file:
            while True:
                file.seek(offset)
                piece = file.read(min(_PIECE_BYTES, size - offset))
                ask = {"ask": "put", "digest": digest, "size": size, "offset": offset, "bytes": len(piece)}
                value, _ = self._request(ask, piece)
                if value["whole"]:
                    return
                if not piece or not 0 <= value["size"] < size:
                    raise DeviceError(
                        asked=f"bring {path.name} to {self._name}",
                        found="that it became shorter meanwhile",
                        fix="run it again; something else writes to it",
                    )
                offset = value["size"]  # less than was sent, where another session is bringing the same file

    def _request(self, ask: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        with self._lock:
            return self._connected().request(ask, payload)

    def _connected(self) -> Connection:
        if self._link is None or not self._link.is_open:
            self.close()
            self._placed.clear()  # whoever cleans a device meanwhile takes it away
            self._link = Connection(self._transport, self._name, build_agent([], self._workdir / "agents"))
        return self._link


def _entry(path: Path) -> tuple[Path, str, int]:
    return path, digest_file(path), path.stat().st_size


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
