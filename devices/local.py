"""The machine that Edgeport runs on, as a device."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from edgeport.atomic import atomic_file
from edgeport.contracts import DeviceFacts, Job, ProcessTrace, TimeJob, dump_json, load_json
from edgeport.devices.agent.facts import device_facts
from edgeport.devices.agent.machine_lock import FOLDER, pause, take_turn
from edgeport.devices.agent_archive import build_agent
from edgeport.devices.agent_result import read_trace
from edgeport.devices.exit_diagnosis import no_result, raise_dead
from edgeport.errors import ChildCrash, ChildTimeout, DeviceError, ResourceLimit
from edgeport.isolation import run_isolated

__all__ = ["LocalDevice"]

_LOG = logging.getLogger(__name__)


class LocalDevice:
    """Runs each job in a fresh process of this machine, with the same agent as a remote device.

    Args:
        workdir: Where agents and the files of running jobs are kept.

    """

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir.resolve()
        self._facts: DeviceFacts | None = None
        self._together = _Together()

    def facts(self) -> DeviceFacts:
        """Processor, memory, system, runtimes and sensors of this machine."""
        if self._facts is None:
            self._facts = load_json(DeviceFacts, json.dumps({"name": "local", **device_facts()}))
        return self._facts

    def push(self, path: Path) -> str:
        """The file or folder itself: it is here already, and the agent digests what it opens.

        Raises:
            DeviceError: There is no such file.

        """
        if not path.exists():
            raise DeviceError(
                asked=f"use {path.name} on this machine", found="no such file or folder", fix="build it first"
            )
        return str(path.resolve())

    def reserve(self, name: str) -> str:
        """A place for a file that a job writes, below the working folder.

        Raises:
            DeviceError: It is no plain name.

        """
        if name in ("", ".", "..") or Path(name).name != name:
            raise DeviceError(asked="reserve a place", found=f"no name: {name!r}", fix="give a plain name")
        outputs = self._workdir / "outputs"
        outputs.mkdir(parents=True, exist_ok=True)
        return str(Path(tempfile.mkdtemp(dir=outputs), name))

    def discard(self, path: str) -> None:
        """Removes what a job wrote in a reserved place, and the place."""
        folder = Path(path).parent
        if folder.parent == self._workdir / "outputs":
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Nothing is held open."""

    def run(self, job: Job) -> ProcessTrace:
        """Runs one job in a fresh process; while it times, nobody else's is timed on this machine.

        Raises:
            ChildTimeout: It took longer than `job.limits.time_s`; the details tell where it hung.
            ResourceLimit: It took more memory than `job.limits.memory_bytes`.
            BackendCrash: It died by a signal; the details hold its stack.
            BackendError: What the runtime said.
            DeviceError: The job's files, or its result, are not what they should be.

        """
        agent = build_agent([job.session], self._workdir / "agents")
        jobs = self._workdir / "jobs"
        jobs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=jobs, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "job.json").write_bytes(dump_json(job))
            result = folder / "result.json"
            payload = {
                "agent": str(agent),
                "job": str(folder / "job.json"),
                "result": str(result),
                "folder": str(folder),
            }
            try:
                with self._turn_of(job):
                    ended = run_isolated("edgeport.devices.agent_launcher:run_agent", payload, limits=job.limits)
            except (ChildCrash, ChildTimeout, ResourceLimit) as error:
                raise_dead(job, error)
            if not result.exists():
                raise no_result(job, int(ended["exit_status"]))
            return read_trace(result, job)

    def _turn_of(self, job: Job) -> AbstractContextManager[None]:
        if not isinstance(job, TimeJob):
            return nullcontext()
        return self._together.turn() if job.meet else _turn()

    def pull(self, path: str, into: Path) -> None:
        """Copies a file to `into` (a file's path, or a folder), in one step.

        Raises:
            DeviceError: There is no such file.

        """
        source = Path(path)
        target = into / source.name if into.is_dir() else into
        if not source.is_file():
            raise DeviceError(
                asked=f"bring {source.name} from this machine", found="no such file", fix="run the job again"
            )
        if target.exists() and target.samefile(source):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as draft:
            shutil.copyfile(source, draft)


@contextmanager
def _turn() -> Iterator[None]:
    """While it lasts, no other run of Edgeport measures on this machine; says so where it has to wait."""
    said: list[bool] = []

    def wait() -> None:
        if not said:
            said.append(True)
            _LOG.warning("local: waiting for another measurement on this machine to end")
        pause()

    def warn(folder: str) -> None:
        _LOG.warning("local: no lock can be had in %s (%s), so who measures by it is not waited for", folder, FOLDER)

    descriptor = take_turn(_own_folder(), wait, warn)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _own_folder() -> Path:
    """Of all runs of this user; a run's working folder would be shared with nobody."""
    import platformdirs

    own = Path(platformdirs.user_cache_dir("edgeport"))
    with suppress(OSError):  # then there is no lock at all
        own.mkdir(parents=True, exist_ok=True)
    return own


class _Together:
    """One turn of several jobs that are timed at the same time because they are asked what they cost each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs = 0
        self._held = ExitStack()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._lock:
            if not self._jobs:
                self._held.enter_context(_turn())
            self._jobs += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= 1
                if not self._jobs:
                    self._held.close()
