"""How much memory a child and its children hold, and whether the system killed for want of it."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["TreeMemory", "address_space_limit", "give_back", "give_back_of", "oom_kills", "peak_memory_bytes"]

_ADDRESS_SPACE_MARGIN_BYTES = 64 << 30
"""Runtimes reserve far more addresses than they touch: thread stacks, arenas, mapped weights. This is above what any
CPU runtime was seen to reserve, and below the absurd (256 GiB), which then fails at once."""

_GPU_NODES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd")
"""CUDA and ROCm map all of the machine's and the GPU's memory into one address space: no such limit can hold there."""

_CHILDREN_EVERY = 10
"""Walking all processes of a machine costs milliseconds, so new grandchildren are looked for in every tenth reading."""

_HEAVY_BYTES = 1 << 20
"""Of a model file: with less, what is freed is less than the walk is worth."""


def address_space_limit(memory_bytes: int) -> int | None:
    """RLIMIT_AS for a child that may hold `memory_bytes`, or None where it can't be set."""
    if sys.platform == "win32" or any(Path(node).exists() for node in _GPU_NODES):
        return None
    return memory_bytes + _ADDRESS_SPACE_MARGIN_BYTES


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """Processes that this machine's kernel killed for want of memory since it started; 0 where it doesn't tell."""
    try:
        for line in vmstat.read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return 0


def peak_memory_bytes(pid: int | None = None) -> int:
    """Largest resident size of a process, this one by default; 0 where the kernel keeps none (proc_pid_status(5)).

    getrusage and wait4 would not do: their maximum outlives exec, so that a large parent would be counted.
    """
    try:
        status = Path(f"/proc/{'self' if pid is None else pid}/status")
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def give_back() -> None:
    """Frees what only cycles of objects hold, and returns it to the system where glibc keeps it (malloc_trim(3)).

    Worth its milliseconds where much was held for a moment: a graph with a model's weights, which is full of cycles.
    """
    gc.collect()
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)


def give_back_of(path: Path) -> None:
    """As `give_back`, where a graph of this ONNX file is worth the walk over all objects."""
    if path.stat().st_size > _HEAVY_BYTES:
        give_back()


class TreeMemory:
    """Reads the resident memory of one process and its descendants, and remembers the peak.

    Args:
        pid: Of the root of the tree.

    """

    def __init__(self, pid: int) -> None:
        import psutil

        self.peak_bytes = 0
        self._readings = 0
        self._children: list[psutil.Process] = []
        try:
            self._root: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:  # it is gone already
            self._root = None

    def read(self) -> int:
        """Bytes that the tree holds now; pages that are shared within it count more than once."""
        import psutil

        if self._root is None:
            return 0
        if self._readings % _CHILDREN_EVERY == 0:
            try:
                self._children = self._root.children(recursive=True)
            except psutil.Error:
                self._children = []
        self._readings += 1
        total = 0
        for process in (self._root, *self._children):
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it ended between two readings
                continue
        self.peak_bytes = max(self.peak_bytes, total)
        return total

    def processes(self) -> list[psutil.Process]:
        """The tree as it is now, root last, so that killing in this order leaves no one to start another."""
        import psutil

        if self._root is None:
            return []
        try:
            return [*self._root.children(recursive=True), self._root]
        except psutil.Error:
            return []
