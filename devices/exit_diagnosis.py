"""What became of an agent that died, in the words of its job."""

from __future__ import annotations

import signal
from typing import Any, NoReturn

from edgeport.contracts import Job
from edgeport.errors import BackendCrash, ChildCrash, ChildTimeout, ResourceLimit
from edgeport.isolation.protocol import MORE_MEMORY, MORE_TIME, is_out_of_memory

__all__ = ["no_result", "raise_dead", "raise_if_dead"]

_STACK_STARTS = ("Fatal Python error", "Timeout (")


def raise_dead(job: Job, error: ChildCrash | ChildTimeout | ResourceLimit) -> NoReturn:
    """The same error in the job's words; a dead agent means that the runtime crashed it."""
    asked = f"{job.kind} {job.entry} with {job.session}"
    stack = _stack(str(error.details.get("stderr", "")))
    details = error.details | {"stack": stack}
    where = next((f" in {line.strip()}" for line in stack.splitlines() if line.lstrip().startswith("File ")), "")
    if isinstance(error, ChildTimeout):
        raise ChildTimeout(
            asked=f"{asked} within {job.limits.time_s:g} s",
            found=f"it was still at work, and was killed{where}",
            fix=error.fix,
            details=details,
        ) from error
    if isinstance(error, ResourceLimit):
        raise ResourceLimit(asked=asked, found=error.found, fix=error.fix, details=details) from error
    raise BackendCrash(
        asked=asked,
        found=f"the runtime's process died by {error.details.get('signal', 'an unknown cause')}{where}",
        fix="other candidates are not touched; report the stack (in this error's details) to the runtime's makers",
        details=details,
    ) from error


def no_result(job: Job, exit_status: int) -> BackendCrash:
    """The agent ended without writing a result."""
    return BackendCrash(
        asked=f"{job.kind} {job.entry} with {job.session}",
        found=f"the runtime ended the process with status {exit_status}",
        fix="other candidates are not touched; try another version of the runtime",
        details={"exit_status": exit_status},
    )


def raise_if_dead(job: Job, ended: dict[str, Any]) -> None:
    """Raises what became of an agent that another device ran, where it did not end by itself.

    Args:
        job: That it ran.
        ended: As `edgeport.devices.agent.supervisor.run_watched` tells it.

    Raises:
        ChildTimeout: It took too long.
        ResourceLimit: It took too much memory, or was refused some.
        BackendCrash: It died by a signal.

    """
    status, stderr, peak = int(ended["status"]), str(ended["stderr"]), int(ended["peak_memory_bytes"])
    details = {"peak_memory_bytes": peak, "stderr": stderr}
    limit = f"{job.limits.memory_bytes / (1 << 20):.0f} MiB"
    asked = f"{job.kind} {job.entry} with {job.session}"
    if ended["overdue"]:
        raise_dead(job, ChildTimeout(asked=asked, found="it was still at work", fix=MORE_TIME, details=details))
    starved = (status == -signal.SIGABRT and is_out_of_memory(stderr)) or (status == -signal.SIGKILL and ended["oom"])
    if ended["over_memory"] or starved:
        found = f"more than {limit} in use" if ended["over_memory"] else f"no memory left, of the {limit} it may have"
        at_most = f"{found}; at its peak it held {peak / (1 << 20):.0f} MiB"
        raise_dead(job, ResourceLimit(asked=asked, found=at_most, fix=MORE_MEMORY, details=details))
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        raise_dead(
            job, ChildCrash(asked=asked, found=f"it died by {name}", fix="", details={"signal": name, **details})
        )


def _stack(stderr: str) -> str:
    """What `faulthandler` wrote last, without what the runtime wrote before."""
    lines = stderr.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith(_STACK_STARTS)]
    return "\n".join(lines[starts[-1] :]) if starts else ""
