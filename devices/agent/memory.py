"""The most memory this process had, with those that run a model beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterable


def peak_memory_bytes(beside: Iterable[int] = ()) -> int:
    """Largest resident size so far; 0 where the system does not tell.

    On Linux from /proc: `ru_maxrss` there is inherited from the process that started this one.

    Args:
        beside: Numbers of the session's other processes; each one's largest is added.

    """
    peaks = [_told(name) for name in ("self", *map(str, beside))]
    if all(peaks):
        return sum(peaks)
    if len(peaks) > 1:
        return 0
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def _told(process: str) -> int:
    try:
        for line in Path("/proc", process, "status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
