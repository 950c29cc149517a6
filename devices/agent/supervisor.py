"""Runs a job in a process of its own, within its limits, for as long as the host listens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

from edgeport.devices.agent.rpc import Channel

_POLL_S = 0.05
_GROUP_EVERY = 10
_STDERR_BYTES = 64 << 10
_ADDRESS_SPACE_MARGIN_BYTES = 64 << 30
"""Runtimes reserve far more addresses than they touch."""
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd")
"""CUDA and ROCm map all memory into one address space: no such limit can hold there."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_watched(command: list[str], folder: Path, limits: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Runs a command until it ends, or must be ended.

    Whatever happens, nothing of its process group is left: not when it ends, when a limit ends it, when the host goes
    away, or when this process is ended by a signal.

    Args:
        command: Program and arguments.
        folder: It works in.
        limits: `time_s` and `memory_bytes`, resident, of it and its children.
        channel: To the host.

    Returns:
        `status` (negative: the signal), `overdue`, `over_memory`, `oom` (the system killed for want of memory),
        `peak_memory_bytes`, `stderr` (its end).

    Raises:
        LinkLostError: The host is gone.

    """
    kills = _oom_kills()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=str(folder),
        start_new_session=True,
        preexec_fn=_prepare(limits["memory_bytes"]),  # noqa: PLW1509 (this process has one thread)
    )
    watch = _Watch(process, limits, channel)
    try:
        watch.wait()
    finally:
        _end(process)
    watch.read_rest()
    return {
        "status": process.returncode,
        "overdue": watch.overdue,
        "over_memory": watch.over_memory,
        "oom": _oom_kills() > kills,
        "peak_memory_bytes": watch.peak_bytes,
        "stderr": bytes(watch.stderr).decode("utf-8", "replace"),
    }


class _Watch:
    def __init__(self, process: subprocess.Popen[bytes], limits: dict[str, Any], channel: Channel) -> None:
        self.overdue = False
        self.over_memory = False
        self.peak_bytes = 0
        self.stderr = bytearray()
        self._process = process
        self._pipe: int | None = process.stderr.fileno() if process.stderr is not None else None
        self._limits = limits
        self._channel = channel
        self._deadline = time.monotonic() + limits["time_s"]
        self._readings = 0
        self._members: list[int] = []

    def wait(self) -> None:
        """Returns when the process has ended, or must be ended."""
        while not _has_ended(self._process):
            left = self._deadline - time.monotonic()
            sources = [self._channel.source] + ([self._pipe] if self._pipe is not None else [])
            ready = select.select(sources, [], [], max(0.0, min(_POLL_S, left)))[0]
            if self._pipe in ready:
                self._read()
            self._channel.tick()
            self.peak_bytes = max(self.peak_bytes, self._memory_bytes())
            if self.peak_bytes > self._limits["memory_bytes"]:
                self.over_memory = True
                return
            if left <= 0:
                self.overdue = True
                return

    def read_rest(self) -> None:
        """What it wrote last; a process that left the group may hold the pipe, so nobody waits for its end."""
        while self._pipe is not None and select.select([self._pipe], [], [], 0)[0]:
            self._read()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _read(self) -> None:
        data = os.read(self._pipe, 1 << 16) if self._pipe is not None else b""
        if not data:
            self._pipe = None
            if not _has_ended(self._process):  # it closed its stderr; select would not wait for anything else
                time.sleep(0.001)
        self.stderr += data
        del self.stderr[:-_STDERR_BYTES]

    def _memory_bytes(self) -> int:
        """Resident memory of the group; its members are looked for in every tenth reading."""
        if self._readings % _GROUP_EVERY == 0:
            self._members = _group(self._process.pid)
        self._readings += 1
        return sum(_resident_bytes(pid) for pid in {self._process.pid, *self._members})


def _prepare(memory_bytes: int) -> Callable[[], None]:
    """What the child does before it runs the command: it will die with this process, and has its limits."""
    parent = os.getpid()
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    limit = None if any(Path(node).exists() for node in _GPU_NODES) else memory_bytes + _ADDRESS_SPACE_MARGIN_BYTES

    def prepare() -> None:
        if library is not None and hasattr(library, "prctl"):
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if limit is not None and limit < sys.maxsize:
            try:
                soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            except (OSError, ValueError):  # macOS knows the limit and refuses to set it
                pass

    return prepare


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without gathering its end, where that can be done: its group's number can't be given away meanwhile."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _group(leader: int) -> list[int]:
    """Processes of a group, from /proc; the fifth field of `stat`, counted behind the name, is the group (proc(5))."""
    found = []
    try:
        entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    for entry in entries:
        try:
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[2]) == leader:
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):  # noqa: PERF203 (it ended meanwhile)
            continue
    return found


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _oom_kills() -> int:
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
