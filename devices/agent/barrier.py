"""Processes that are timed at the same time: each begins when all are warm, and stays at work until all are done."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from edgeport.devices.agent.clock import now_ns
from edgeport.devices.agent.failure import JobError

_READY, _DONE = ".ready", ".done"
_LONGEST_S = 120.0
_LOOK_NS = 2_000_000


class Barrier:
    """The places where each process says how far it is; files, which any two processes share.

    Args:
        places: One path per process, the same list in all of them.
        index: Of this process.

    """

    def __init__(self, places: list[str], index: int) -> None:
        self._places = places
        self._own = places[index]

    def begin(self, run: Callable[[], None]) -> None:
        """Calls until all processes are warm.

        Raises:
            JobError: One of them never came.

        """
        self._work_until(run, _READY)

    def end(self, run: Callable[[], None]) -> None:
        """Calls until all processes have timed theirs, so that none of them has the machine to itself.

        Raises:
            JobError: One of them never ended.

        """
        self._work_until(run, _DONE)

    def _work_until(self, run: Callable[[], None], said: str) -> None:
        Path(self._own + said).write_bytes(b"")
        missing = [Path(place + said) for place in self._places if place != self._own]
        until = now_ns() + int(1e9 * _LONGEST_S)
        look = 0
        while missing:
            run()
            now = now_ns()
            if now < look:
                continue
            missing = [path for path in missing if not path.exists()]
            look = now + _LOOK_NS
            if missing and now > until:
                raise JobError(
                    "DEVICE_FAILED",
                    f"time {len(self._places)} processes at once",
                    f"that {len(missing)} of them never got as far as this one",
                    "see what became of the others",
                )
