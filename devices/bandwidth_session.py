"""A session that reads an array again and again: what it takes tells how fast memory of that size can be read.

It is timed by the agent like a model, and ships to the device: standard library and numpy only, Python 3.8 syntax,
nothing of ours. An array that fits a cache is read from there, as the weights of a model of that size are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

__all__ = ["open_session"]

_SETTINGS = ("size_bytes", "passes", "threads", "affinity")


def open_session(path: str, settings: Mapping[str, Any]) -> Session:  # noqa: ARG001 (every session has a file)
    """Settings: `size_bytes` of the array, `passes` over it in one call, `threads` that share it, and optionally
    `affinity` (logical processors that this process may use).

    Raises:
        ValueError: An unknown setting.

    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise ValueError(f"asked to open a session with {unknown}; found settings {', '.join(_SETTINGS)}")
    affinity = settings.get("affinity") or ()
    if affinity and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(affinity))
    return Session(int(settings["size_bytes"]), int(settings["passes"]), int(settings["threads"]))


class Session:
    """Memory, and a thread for each part of it."""

    def __init__(self, size_bytes: int, passes: int, threads: int) -> None:
        part = max(1, size_bytes // threads)
        self._ready, self._done = threading.Barrier(threads), threading.Barrier(threads)
        # Written once: memory that nobody wrote is one page of zeros, however large.
        self._parts = [_repeated(np.full(part, 1, np.int8), passes) for _ in range(threads)]
        self._largest: list[int] = [0] * threads
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(1, threads)]
        for thread in self._threads:
            thread.start()

    def bind(self, feeds: Mapping[str, Any]) -> Call:  # noqa: ARG002 (there is nothing to feed)
        """A call; it takes no inputs."""
        return Call(self.read, self._largest)

    def read(self) -> None:
        """All threads read their parts; returns when the last one is done."""
        self._ready.wait()
        self._read(0)
        self._done.wait()

    def close(self) -> None:
        """Ends the threads."""
        self._ready.abort()
        for thread in self._threads:
            thread.join()

    def _serve(self, index: int) -> None:
        while True:
            try:
                self._ready.wait()
            except threading.BrokenBarrierError:
                return
            self._read(index)
            self._done.wait()

    def _read(self, index: int) -> None:
        # Of numpy's reductions the one that comes nearest to what memory gives: vectorised, without the interpreter's
        # lock, no dependence between values.
        self._largest[index] = int(self._parts[index].max())


class Call:
    """One call is as many passes over the array as were asked for."""

    def __init__(self, run: Callable[[], None], largest: list[int]) -> None:
        self.run = run
        self._largest = largest

    def outputs(self) -> dict[str, Any]:
        """The largest value, which is 1 where all was read."""
        return {"largest": np.array([max(self._largest)], np.int8)}


def _repeated(values: Any, passes: int) -> Any:
    """The same memory `passes` times, as rows of a matrix: int8 [passes, len(values)]."""
    return as_strided(values, (passes, values.size), (0, values.strides[0]), writeable=False)
