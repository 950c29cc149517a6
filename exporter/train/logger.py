"""What a training tells: numbers as JSON lines and to TensorBoard, and progress with the time left."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeport.contracts import OnProgress, ProgressEvent

__all__ = ["TrainingLogger"]

_SMOOTHING = 0.1
"""Weight of the newest step in the guess of how long a step takes."""


class TrainingLogger:
    """The numbers of one training, in a file that a resumed one goes on writing.

    Args:
        folder: Gets `metrics.jsonl`, and `tensorboard/` where that package is installed.
        steps: That the training has.
        done: Steps done before, -1 at the start; lines that come later are of a run that was cut off, and are dropped.
        on_progress: Told of every step that is noted.

    """

    def __init__(self, folder: Path, steps: int, *, done: int, on_progress: OnProgress) -> None:
        self.path = folder / "metrics.jsonl"
        self._steps, self._on_progress = steps, on_progress
        _drop_after(self.path, done)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(folder / "tensorboard", done)
        self._step_s: float | None = None
        self._last = (max(done, 0), time.monotonic())

    def note(self, step: int, epoch: int, numbers: Mapping[str, float], *, of: str, show: str = "") -> None:
        """Writes a line.

        Args:
            step: Steps done.
            epoch: That is under way, from 1.
            numbers: By name.
            of: "step" or "evaluation".
            show: What people read; the numbers where it is empty.

        """
        line = {"of": of, "step": step, "epoch": epoch, **numbers}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{of}/{name}", value, step)
        text = show or ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        left = self._left(step, of)
        self._on_progress(ProgressEvent(stage="train", message=text, done=step, total=self._steps, time_left_s=left))

    def close(self) -> None:
        """No more lines."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _left(self, step: int, of: str) -> float | None:
        """Seconds, by what steps took lately; evaluations between them count as part of the steps."""
        before, at = self._last
        if of == "step" and step > before:
            now = time.monotonic()
            each = (now - at) / (step - before)
            self._step_s = each if self._step_s is None else self._step_s + _SMOOTHING * (each - self._step_s)
            self._last = (step, now)
        return None if self._step_s is None else self._step_s * (self._steps - step)


def _drop_after(path: Path, done: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError):  # the last line may be cut off
            if json.loads(line)["step"] <= done:
                kept.append(line + "\n")
    path.write_text("".join(kept), encoding="utf-8")


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=max(done, 0))
