"""What both kinds of job begin with: digest, feeds, session, artifact; each timed by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.devices.agent.arrays import Arrays, batch_of, load_arrays, sample_count
from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.digest import artifact_digest
from edgeport.devices.agent.failure import JobError, three_parts
from edgeport.devices.agent.sessions import ImportClock, load_session_module


class SessionContext:
    """An artifact that is open, its feeds, and what opening cost.

    Attributes:
        session: As the session module returned it.
        feeds: Every sample, and what a state begins with.
        state: Output to the input that it feeds on the next call.
        count: Number of samples.
        digest: Of the artifact, as it lies on this device.
        import_ns: Loading the session module and the runtime.
        load_ns: Opening the artifact, without the imports.
        cold: Its files had to be read from the disk.
        beside: Numbers of the processes that the session runs in besides this one (`Session.processes`).

    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.digest = artifact_digest(Path(job["artifact"]), job["settings"])
        self.feeds: Arrays = load_arrays(job["feeds"])
        self.state: dict[str, str] = dict(job.get("state") or {})
        self.count = sample_count(self.feeds, self.inputs_of_state)
        path = entry_of(job)
        self.cold = bool(job.get("cold")) and forget_files(Path(job["artifact"]))
        before = now_ns()
        module = load_session_module(job["session"])
        self.import_ns = now_ns() - before
        with ImportClock() as imports:
            before = now_ns()
            self.session = module.open_session(str(path), dict(job["settings"]))
            self.load_ns = max(0, now_ns() - before - imports.import_ns)
        self.import_ns += imports.import_ns
        self.beside: list[int] = list(getattr(self.session, "processes", ()))

    @property
    def inputs_of_state(self) -> list[str]:
        """Names of the inputs that outputs feed."""
        return list(self.state.values())

    def batch(self, start: int, batch: int) -> Arrays:
        """Feeds of one call; a state as it begins."""
        return batch_of(self.feeds, start, batch, self.inputs_of_state)

    def fed_back(self, outputs: Arrays) -> Arrays:
        """The state of the next call."""
        return {into: np.ascontiguousarray(outputs[out]) for out, into in self.state.items()}

    def bind(self, feeds: Arrays) -> Any:
        """A call with these inputs.

        Raises:
            JobError: The session says, by a ValueError, that they do not fit the model.

        """
        try:
            return self.session.bind(feeds)
        except ValueError as error:
            fed = "feed " + ", ".join(f"{n} {a.dtype} {list(a.shape)}" for n, a in sorted(feeds.items()))
            fix = "give arrays of the names, dtypes and shapes that the model takes"
            raise JobError("SAMPLES_INVALID", *three_parts(str(error), fed, fix)) from error


def forget_files(folder: Path) -> bool:
    """Asks the system to drop its copies of the files in memory; whether it could be asked at all (posix_fadvise)."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(str(path), os.O_RDONLY)
            try:
                os.fsync(descriptor)  # what is not on the disk yet can't be dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError:
                return False
            finally:
                os.close(descriptor)
    return True


def entry_of(job: dict[str, Any]) -> Path:
    """The file that a session opens.

    Raises:
        JobError: There is none.

    """
    path = Path(job["artifact"], job["entry"])
    if not path.exists():
        raise JobError(
            "DEVICE_FAILED", "open " + job["entry"], "no such file in the artifact", "push the artifact again"
        )
    return path
