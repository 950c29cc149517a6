"""Reads what an agent wrote; the same for every device, near or far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeport.contracts import Job, ProcessTrace, load_json
from edgeport.errors import BackendError, ContractError, DeviceError, EdgeportError, ResourceLimit, error_from_dict
from edgeport.isolation.protocol import MORE_MEMORY, is_out_of_memory

__all__ = ["RESULT_LIMIT_BYTES", "read_trace"]

RESULT_LIMIT_BYTES = 64 << 20
"""A hundred thousand readings take 1 MB; more than this is not a result."""

_VERSION = 1


def read_trace(path: Path, job: Job) -> ProcessTrace:
    """The trace in the result file of a job.

    Raises:
        DeviceError: There is no result, or it is too large, damaged, or not a trace of this job.
        EdgeportError: The error that the agent wrote instead.

    """
    result = _read(path, job)
    if "error" in result:
        raise _agent_error(result["error"], job)
    try:
        trace = load_json(ProcessTrace, json.dumps(result.get("value")))
    except ContractError as error:
        raise _unreadable(job, error.found) from error
    if job.kind == "time" and not trace.latency_ns:
        raise _unreadable(job, "a trace without a single reading")
    return trace


def _read(path: Path, job: Job) -> dict[str, Any]:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > RESULT_LIMIT_BYTES:
            raise _unreadable(job, f"a result of {size_bytes} bytes")
        result = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _unreadable(job, "no result") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(job, f"a damaged result ({error})") from error
    if not isinstance(result, dict) or result.get("version") != _VERSION:
        raise _unreadable(job, "a result of another version")
    return result


def _agent_error(record: object, job: Job) -> EdgeportError:
    if not isinstance(record, dict):
        return _unreadable(job, "an error without a record")
    error = error_from_dict(record)
    if isinstance(error, ResourceLimit) or (isinstance(error, BackendError) and is_out_of_memory(error.found)):
        peak = error.details.get("peak_memory_bytes")
        held = f"; at its peak it held {peak / (1 << 20):.0f} MiB" if isinstance(peak, int) and peak else ""
        return ResourceLimit(
            asked=error.asked,
            found=f"{error.found}{held}",
            fix=MORE_MEMORY,
            details=error.details,
        )
    return error


def _unreadable(job: Job, found: str) -> DeviceError:
    return DeviceError(
        asked=f"read the result of {job.kind} {job.entry}",
        found=found,
        fix="run it again; if it happens again, report it with the agent's stderr",
    )
