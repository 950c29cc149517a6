"""The course of trainings beside what came of them: JSON lines, and curves for TensorBoard where that is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["CURVES", "METRICS", "copy_courses", "copy_curves"]

METRICS = "metrics.jsonl"
CURVES = "tensorboard"
"""Name of their folder in a training's own; and ending of one beside weights: `NAME.tensorboard`."""


def copy_curves(training: Path, place: Path) -> None:
    """Puts the curves of a training at a place of their own, instead of what was there; nothing where it drew none."""
    shutil.rmtree(place, ignore_errors=True)
    if (training / CURVES).is_dir():
        shutil.copytree(training / CURVES, place)


def copy_courses(folder: Path, place: Path) -> Path | None:
    """Puts metrics and curves of all trainings in a folder into another one, by the same names; None where none are.

    Args:
        folder: Of the trainings, or of one.
        place: Is made.

    """
    logs = sorted(folder.rglob(METRICS))
    for log in logs:
        there = place / log.parent.relative_to(folder)
        there.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, there / METRICS)
        copy_curves(log.parent, there / CURVES)
    return place if logs else None
