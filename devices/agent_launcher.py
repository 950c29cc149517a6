"""What `run_isolated` runs to start the agent: the agent in a process of its own, under the limits of this one."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
from typing import Any

__all__ = ["run_agent"]


def run_agent(payload: dict[str, Any]) -> dict[str, Any]:
    """Runs the agent and waits for it; where it dies by a signal, so does this process.

    A plain `python agent.pyz`, as on any other device: nothing of Edgeport is loaded into the measured process. It
    stays in this process's group, so that what ends this one ends it too, and its stderr (with the stack of a crash)
    is this one's.

    Args:
        payload: `agent`, `job`, `result`: paths; `folder`: the working folder.

    Returns:
        `exit_status`.

    """
    command = [sys.executable, payload["agent"], payload["job"], payload["result"]]
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=payload["folder"], check=False
    )
    if process.returncode < 0:
        _die_by(-process.returncode)
    return {"exit_status": process.returncode}


def _die_by(number: int) -> None:
    """So the one place that reads a dead child's signal, stack and memory reads this one's."""
    faulthandler.disable()  # the stack that matters is the agent's, on stderr
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
