"""`python agent.pyz JOB.json RESULT.json`: runs one job, writes one result."""

from __future__ import annotations

import faulthandler
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from edgeport.devices.agent.evaluate import run_evaluate_job
from edgeport.devices.agent.facts import run_facts_job
from edgeport.devices.agent.failure import JobError, three_parts
from edgeport.devices.agent.inspect_job import run_inspect_job
from edgeport.devices.agent.memory import peak_memory_bytes
from edgeport.devices.agent.timing import run_time_job

RESULT_VERSION = 1

# One visible table: the kind of job to the function that runs it.
JOBS = {"time": run_time_job, "evaluate": run_evaluate_job, "inspect": run_inspect_job, "facts": run_facts_job}

_TRACEBACK_LINES = 30
_STACKS = 8  # over the time that the job may take


def main(arguments: list[str]) -> int:
    """Runs the job in the file `arguments[0]` and writes its result to `arguments[1]`.

    The result is JSON: `{"version": 1, "value": {...}}` with the fields of a `ProcessTrace` (or of `DeviceFacts`), or
    `{"version": 1, "error": {...}}` with those of `EdgeportError.to_dict`.

    Returns:
        0 where there is a value, 1 where there is an error, 2 where the arguments make no sense.

    """
    faulthandler.enable()
    if len(arguments) != 2:
        sys.stderr.write("usage: python agent.pyz JOB.json RESULT.json\n")
        return 2
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    # When the host gives up on a call that hangs, its stack lies on stderr; most jobs end before the first one.
    faulthandler.dump_traceback_later(job["limits"]["time_s"] / _STACKS, repeat=True)
    result = run_job(job)
    faulthandler.cancel_dump_traceback_later()
    _write(Path(arguments[1]), result)
    return 1 if "error" in result else 0


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """The job's result as JSON values; whatever goes wrong becomes its "error"."""
    try:
        return {"version": RESULT_VERSION, "value": JOBS[job["kind"]](job)}
    except JobError as error:
        return {"version": RESULT_VERSION, "error": error.record}
    except MemoryError:
        record = JobError(
            "RESOURCE_LIMIT", "run " + str(job.get("entry")), "no memory left", "use a smaller batch or a larger device"
        ).record
        record["details"]["peak_memory_bytes"] = peak_memory_bytes()
        return {"version": RESULT_VERSION, "error": record}
    except Exception as error:  # noqa: BLE001 (a runtime may raise anything; it is told, not hidden)
        return {"version": RESULT_VERSION, "error": _runtime_error(job, error)}


def _runtime_error(job: dict[str, Any], error: Exception) -> dict[str, Any]:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    missing = isinstance(error, ImportError)
    asked = "run {} with {}".format(job.get("entry"), job.get("session"))
    fix = "install the runtime on the device" if missing else "read the runtime's message; try another backend"
    told, found, to_do = three_parts(str(error), asked, fix)
    record = JobError(
        "DEPENDENCY_MISSING" if missing else "BACKEND_FAILED",
        asked if told == asked else f"{asked} ({told})",
        found if told != asked else f"{type(error).__name__}: {error}",
        to_do,
    ).record
    record["details"]["peak_memory_bytes"] = peak_memory_bytes()
    record["details"]["traceback"] = "".join(lines).splitlines()[-_TRACEBACK_LINES:]
    return record


def _write(path: Path, result: dict[str, Any]) -> None:
    """In one step: whoever reads the result never sees half of it."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
    partial.replace(path)
