"""The most memory this process had."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """Largest resident size so far; 0 where the system does not tell.

    On Linux from /proc: `ru_maxrss` there is inherited from the process that started this one.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
