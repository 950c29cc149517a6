"""Memory of this process in huge pages.

Ships to devices within `session.py`: Python 3.8 syntax, standard library and numpy only.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from typing import Iterator  # noqa: UP035 (Python 3.8 can't subscript that of collections.abc)

import numpy as np

__all__ = ["HugePageMove", "bytes_in_huge_pages", "into_huge_pages"]

_THP = "/sys/kernel/mm/transparent_hugepage/"
_COLLAPSE = 25
"""MADV_COLLAPSE; the module mmap has no name for it."""


class HugePageMove:
    """When the memory of an opened model is moved: once, after the first run that ends, before the next that begins.

    So the first one takes what it takes without, and finds its memory; the second waits for the pages.
    """

    def __init__(self) -> None:
        self.ran = False
        self._turn = threading.Lock()

    def is_over(self) -> bool:
        """Moves it where it is time; whether it was, or another thread does."""
        if self.ran and self._turn.acquire(blocking=False):  # never let go of: once
            into_huge_pages()
        return self.ran


def into_huge_pages() -> None:
    """Moves the memory that this process uses into huge pages, where the system gives them when asked; else nothing.

    Private anonymous memory alone (files that are mapped stay as they are), and only where at least half of a huge page
    is in use, for what moves fills all of it. Other threads may go on meanwhile: the kernel moves pages below them.
    Linux 6.1 and later: madvise(2), MADV_COLLAPSE, which takes what is there, whether or not it was asked for before.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError, ValueError):
        import ctypes

        with open(_THP + "enabled", encoding="ascii") as file:  # noqa: PTH123 (Path would be its only use)
            if "[never]" in file.read():
                return
        with open(_THP + "hpage_pmd_size", encoding="ascii") as file:  # noqa: PTH123
            size = int(file.read())
        libc = ctypes.CDLL(None)
        used = np.zeros(size // mmap.PAGESIZE, np.uint8)
        length, told = ctypes.c_size_t(size), ctypes.c_void_p(used.ctypes.data)
        for start in _page_starts(size):
            where = ctypes.c_void_p(start)
            if libc.mincore(where, length, told) == 0 and 2 * np.count_nonzero(used & 1) >= len(used):
                libc.madvise(where, length, _COLLAPSE)


def _page_starts(size: int) -> Iterator[int]:
    """Where each huge page of so many bytes would begin that lies in private anonymous memory that can be written."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        lines = file.read().splitlines()
    for line in lines:
        span, rights, _, _, inode, *name = line.split(None, 5)
        if rights != "rw-p" or inode != "0" or (name and name[0] != "[heap]" and not name[0].startswith("[anon:")):
            continue
        first, last = (int(one, 16) for one in span.split("-"))
        yield from range(-(-first // size) * size, last // size * size - size + 1, size)


def bytes_in_huge_pages() -> int:
    """Of this process, now; 0 where the system does not tell."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123
            told = [line.split()[1] for line in file if line.startswith("AnonHugePages:")]
        return 1024 * int(told[0]) if told else 0
    except OSError:
        return 0
