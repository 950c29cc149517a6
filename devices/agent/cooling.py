"""Waits until the device is as cool as it was before the first process of an experiment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgeport.devices.agent.telemetry import hottest_millicelsius

_LOOK_S = 0.5


def cool_down(job: dict[str, Any], root: Path = Path("/")) -> dict[str, float]:
    """Rests for `cool_down_s` at most: until the hottest zone is at `cool_to_millicelsius`; all of it where none tells.

    Returns:
        `cooled_s`, how long it took; nothing where no rest was asked for, and before the first process.

    """
    most_s, goal = job.get("cool_down_s") or 0.0, job.get("cool_to_millicelsius")
    if not most_s or (job["round"] == 0 and job["position"] == 0):
        return {}
    began = time.monotonic()
    while True:
        hottest = hottest_millicelsius(root)
        left = began + most_s - time.monotonic()
        if left <= 0 or (hottest is not None and goal is not None and hottest <= goal):
            return {"cooled_s": time.monotonic() - began}
        time.sleep(min(_LOOK_S, left))
