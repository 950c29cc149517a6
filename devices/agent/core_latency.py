"""How long it takes one processor to read what another one has just written.

A call that runs on several processors waits for that at every layer. The host of a virtual machine may move its
processors to cores that share a cache, or apart, for seconds at a time: no counter of the guest tells, and each
processor alone is as fast as before.
"""

from __future__ import annotations

import os
import threading
from typing import Callable

import numpy as np

from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.telemetry import processors

__all__ = ["exchange_ns"]

_LINES = 8192
_FLOATS_PER_LINE = 16  # one float32 of each 64 bytes: the time is that of moving them, not of adding
_REPEATS = 40
_MOST_READERS = 3
_LIMIT_S = 2.0

_Work = Callable[[], None]


def exchange_ns() -> int | None:
    """Of 8192 cache lines (512 KiB), from the first processor that this process may use to the farthest of up to three.

    Returns:
        The shortest of 40 readings, nanoseconds; about 10 ms in all. (The shortest, for a neighbour who takes a
        processor for a while makes most of them longer, but a distance all.) None where there is one processor, or the
        system does not let a thread choose its own.

    """
    mine = processors()
    if len(mine) < 2 or not hasattr(os, "sched_setaffinity"):
        return None
    others = mine[1:]
    chosen = others[:: max(1, len(others) // _MOST_READERS)][:_MOST_READERS]
    found = [_exchange_ns(mine[0], reader) for reader in chosen]
    return max((one for one in found if one is not None), default=None)


def _exchange_ns(writer: int, reader: int) -> int | None:
    lines = np.zeros(_LINES * _FLOATS_PER_LINE, dtype=np.float32)[::_FLOATS_PER_LINE]
    one = np.ones(_LINES, dtype=np.float32)
    turn = threading.Barrier(2, timeout=_LIMIT_S)
    times: list[int] = []

    def write() -> None:
        for _ in range(_REPEATS):
            np.add(lines, one, out=lines)
            turn.wait()  # it is written
            turn.wait()  # it is read

    def read() -> None:
        for _ in range(_REPEATS):
            turn.wait()
            before = now_ns()
            np.add.reduce(lines)
            times.append(now_ns() - before)
            turn.wait()

    threads = [
        threading.Thread(target=_on, args=(processor, work, turn))
        for processor, work in ((writer, write), (reader, read))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return min(times) if len(times) == _REPEATS else None


def _on(processor: int, work: _Work, turn: threading.Barrier) -> None:
    """Does the work on one processor; only this thread is moved there."""
    try:
        os.sched_setaffinity(0, {processor})
        work()
    except (OSError, threading.BrokenBarrierError):
        turn.abort()
