"""One calibration by one child process, or by several over disjoint parts of the samples, merged exactly."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeport.contracts import Calibration, Limits, OnProgress, ProgressEvent
from edgeport.errors import UsageError
from edgeport.isolation import run_isolated

__all__ = ["calibrate_in_children"]

_FUNCTION = "edgeport.pipeline.quantization.calibration_worker:calibrate"


def calibrate_in_children(
    payload: Mapping[str, Any], workers: int, *, limits: Limits, on_progress: OnProgress, asked: str
) -> dict[str, Any]:
    """Runs `calibrating_child.calibrate`; the file at `payload["output"]` is the same whatever the number of workers.

    Args:
        payload: Of `calibrating_child.calibrate`.
        workers: Processes; each takes whole batches, and its share of the cores.
        limits: Of each child.
        on_progress: Told of the batches of all of them.
        asked: What the user asked for, for messages about a child that was killed.

    Raises:
        UsageError: No workers, or several for a model with a state.

    """
    if workers < 1:
        raise UsageError(asked=f"calibrate with {workers} workers", found="a number below 1", fix="give 1 or more")
    if workers == 1:
        return run_isolated(_FUNCTION, payload, limits=limits, on_progress=on_progress, asked=asked)
    if payload["model"].get("state"):
        raise UsageError(
            asked=f"calibrate with {workers} workers",
            found="a model with a state, whose samples follow each other",
            fix="leave the workers out: one process takes the samples in their order",
        )
    import psutil

    from edgeport.calibration.merge import merge_calibrations
    from edgeport.pipeline.engine.context import side_by_side

    threads = max(1, (psutil.cpu_count(logical=False) or 1) // workers)
    together = _Together(on_progress, workers)
    with tempfile.TemporaryDirectory(prefix="edgeport-parts-") as folder:
        files = [Path(folder) / f"{index}.safetensors" for index in range(workers)]

        def work(index: int) -> dict[str, Any]:
            own = {**payload, "part": [index, workers], "threads": threads, "output": str(files[index])}
            return run_isolated(_FUNCTION, own, limits=limits, on_progress=together.listener(index), asked=asked)

        found = side_by_side(work, range(workers), lambda done: None, at_once=workers)  # noqa: ARG005 (told by batches)
        parts = [Calibration.load(file) for file, part in zip(files, found, strict=True) if part["sample_count"]]
    calibration = merge_calibrations(parts)
    calibration.save(Path(payload["output"]))
    return {
        "digest": calibration.digest,
        "sample_count": calibration.sample_count,
        "warnings": [warning for part in found for warning in part["warnings"]],
    }


class _Together:
    """Sums up what several children tell of themselves."""

    def __init__(self, on_progress: OnProgress, workers: int) -> None:
        self._on_progress = on_progress
        self._workers = workers
        self._lock = threading.Lock()
        self._told: dict[int, ProgressEvent] = {}

    def listener(self, index: int) -> OnProgress:
        """For child `index`."""

        def tell(event: ProgressEvent) -> None:
            with self._lock:
                self._told[index] = event
                told = self._told.values()
                done = sum(one.done for one in told)
                total = sum(one.total for one in told) * self._workers // len(told)  # parts are about equally large
                self._on_progress(ProgressEvent(stage=event.stage, message=event.message, done=done, total=total))

        return tell
