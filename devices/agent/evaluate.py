"""Runs every sample once and keeps the outputs."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from edgeport.devices.agent.arrays import Arrays, has_nan, joined, save_arrays
from edgeport.devices.agent.clock import measure_timer, now_ns
from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.memory import peak_memory_bytes
from edgeport.devices.agent.session_setup import SessionContext
from edgeport.devices.agent.telemetry import Telemetry


def run_evaluate_job(job: dict[str, Any]) -> dict[str, Any]:
    """Runs an `EvaluateJob`; the fields of a `ProcessTrace`, one reading per batch.

    The readings are no latency measurement (each batch is bound anew, nothing is warmed up): they say how long the
    work took.
    """
    timer = measure_timer(probes=1000)
    telemetry = Telemetry()
    telemetry.sample()
    opened = SessionContext(job)
    telemetry.beside = opened.beside
    count, batch = opened.count, 1 if opened.state else job["batch"]
    starts = set(job.get("starts") or ())
    held: Arrays = {}
    readings = array("q")
    parts: list[Arrays] = []
    started_at_ns = now_ns()
    try:
        for start in range(0, count, batch):
            if start in starts:
                held = {}  # a sequence begins: so does the state
            call = opened.bind({**opened.batch(start, batch), **held})
            before = now_ns()
            call.run()
            readings.append(now_ns() - before)
            outputs = call.outputs()
            held = opened.fed_back(outputs)
            kept = {name: array_ for name, array_ in outputs.items() if name not in opened.state}
            parts.append(_rows(kept, batch, min(batch, count - start)))
        peak_bytes = peak_memory_bytes(opened.beside)
    finally:
        opened.session.close()
    telemetry.sample()
    outputs = joined(parts)
    save_arrays(Path(job["outputs"]), outputs)
    return {
        "artifact_digest": opened.digest,
        "round": 0,
        "position": 0,
        "import_ns": opened.import_ns,
        "load_ns": opened.load_ns,
        "first_inference_ns": readings[0],
        "warmup_ns": [],
        "latency_ns": readings.tolist(),
        "started_at_ns": started_at_ns,
        "peak_memory_bytes": peak_bytes,
        "timer": timer,
        "telemetry": telemetry.samples,
        "flags": ["nan-output"] if has_nan(outputs) else [],
    }


def _rows(outputs: Arrays, batch: int, wanted: int) -> Arrays:
    # A call of one sample may give one number.
    outputs = {
        name: array_.reshape(1) if batch == 1 and not array_.ndim else array_ for name, array_ in outputs.items()
    }
    for name, array_ in outputs.items():
        if array_.ndim == 0 or array_.shape[0] != batch:
            raise JobError(
                "BACKEND_FAILED",
                f"run a batch of {batch} samples",
                f"output {name} of shape {array_.shape}",
                "export the model with the batch as axis 0 of every output",
            )
    return {name: array_[:wanted] for name, array_ in outputs.items()}
