"""Processors and priority of this thread and of those that it starts.

Ships to devices within `session.py`: Python 3.8 syntax, standard library and numpy only.
"""

from __future__ import annotations

import os
from typing import Iterable  # noqa: UP035 (Python 3.8 can't subscript that of collections.abc)

__all__ = ["allowed_processors", "keep_to", "lower_priority"]


def allowed_processors() -> list[int]:
    """The processors that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def lower_priority(nice: int | None) -> None:
    """Sets the nice value, where one is given and the system has it; it is never raised again."""
    if nice and hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, int(nice))


def keep_to(processors: Iterable[int]) -> None:
    """Keeps this thread, and those that it starts, on these processors, where the system can.

    Raises:
        RuntimeError: They are not all here.

    """
    if not hasattr(os, "sched_setaffinity"):
        return
    wanted, before = set(processors), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, wanted)
        missing = wanted - os.sched_getaffinity(0)  # the system takes what there is of them without a word
    except (OSError, ValueError, OverflowError):
        missing = wanted - before or wanted
    if missing:
        os.sched_setaffinity(0, before)
        raise RuntimeError(
            f"asked to run on processors {', '.join(map(str, sorted(wanted)))}; found that "
            f"{', '.join(map(str, sorted(missing)))} can't be had here; name others, or none"
        )
