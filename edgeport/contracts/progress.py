"""How long-running work tells where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "ProgressEvent", "silent"]


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One step forward.

    Attributes:
        stage: What is under way ("calibrate").
        message: In a few words ("onnxruntime int8, process 3 of 10").
        done, total: Steps of the stage.
        time_left_s: Of the whole run, where it can be told.

    """

    stage: str
    message: str = ""
    done: int = 0
    total: int = 0
    time_left_s: float | None = None


OnProgress = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """Says nothing."""
