"""Commands with limits: how long they take, how much memory they and their children hold, and how they end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.harness.zoo import ROOT
from edgeport.isolation.memory import TreeMemory, peak_memory_bytes

TIME_S = 600.0
MEMORY_BYTES = 4 << 30

_POLL_S = 0.01
_TOLD_CHARS = 300


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        why: Empty where all went well; else "over time", "over memory" or "exit status N".
        seconds: From the start of the process to its end.
        peak_bytes: Resident, of the process and its children together; pages that they share count more than once.
        printed: On its standard output.
        told: What it printed elsewhere: what was found, where it is an error of ours, else the last line.

    """

    why: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    printed: str = ""
    told: str = ""


def watched(
    command: Sequence[str],
    *,
    time_s: float = TIME_S,
    memory_bytes: int = MEMORY_BYTES,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Ended:
    """Runs a command to its end, or to a limit.

    Args:
        command: Program and arguments.
        time_s: After which it is killed with its children.
        memory_bytes: Above which they are.
        environment: Added to ours.
        folder: Where it runs; the project's root by default.

    """
    inherited = os.environ.get("PYTHONPATH", "")
    both = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), inherited))), **(environment or {})}
    # An installed package comes with its bytecode; without it, ours alone would be compiled at every start.
    both.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(command), cwd=folder or ROOT, env=both, stdout=out, stderr=error, start_new_session=True
        )
        memory, why, single = TreeMemory(process.pid), "", 0
        try:
            while process.poll() is None:
                single = max(single, peak_memory_bytes(process.pid))
                if memory.read() > memory_bytes:
                    why = "over memory"
                    break
                if time.perf_counter() - started > time_s:
                    why = "over time"
                    break
                time.sleep(_POLL_S)
            seconds = time.perf_counter() - started
        finally:
            if process.returncode is None:
                for member in memory.processes():
                    with contextlib.suppress(Exception):
                        member.kill()
                process.wait()
        return Ended(
            why=why or (f"exit status {process.returncode}" if process.returncode else ""),
            seconds=seconds,
            peak_bytes=max(memory.peak_bytes, single),
            printed=_text(out),
            told=_gist(_text(error)),
        )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _gist(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [line.removeprefix("found").strip() for line in lines if line.startswith("found ")]
    return (found or lines or [""])[-1][-_TOLD_CHARS:]
