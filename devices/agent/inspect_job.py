"""Opens an artifact and keeps what the runtime made of it; the host's backend reads that."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from edgeport.devices.agent.clock import measure_timer
from edgeport.devices.agent.digest import artifact_digest
from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.memory import peak_memory_bytes
from edgeport.devices.agent.session_setup import entry_of
from edgeport.devices.agent.sessions import load_session_module


def run_inspect_job(job: dict[str, Any]) -> dict[str, Any]:
    """Runs an `InspectJob`; the fields of a `ProcessTrace`, without readings."""
    path = entry_of(job)
    module = load_session_module(job["session"])
    describe = getattr(module, "describe_session", None)
    if describe is None:
        raise JobError(
            "BACKEND_FAILED",
            "see what the runtime makes of " + job["entry"],
            "a session module that can't say",
            "read it on a machine of this kind",
        )
    target = Path(job["outputs"])
    with tempfile.TemporaryDirectory(dir=str(target.parent)) as name:
        folder = Path(name)
        describe(str(path), dict(job["settings"]), name)
        partial = target.with_name(target.name + ".part")
        with zipfile.ZipFile(str(partial), "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                archive.write(str(file), file.relative_to(folder).as_posix())
        partial.replace(target)
    return {
        "artifact_digest": artifact_digest(Path(job["artifact"]), job["settings"]),
        "round": 0,
        "position": 0,
        "load_ns": 0,
        "first_inference_ns": 0,
        "warmup_ns": [],
        "latency_ns": [],
        "peak_memory_bytes": peak_memory_bytes(),
        "timer": measure_timer(probes=10),
    }
