"""The course of trainings beside what came of them: JSON lines, and curves for TensorBoard where that is installed."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from edgeport.errors import OutputError

__all__ = [
    "CURVES",
    "METRICS",
    "copy_courses",
    "copy_curves",
    "course_places",
    "remove_courses",
    "remove_curves",
    "require_course_places",
]

METRICS = "metrics.jsonl"
CURVES = "tensorboard"
"""Name of their folder in a training's own; and ending of one beside weights: `NAME.tensorboard`."""
_EVENTS = "events.out.tfevents.*"


def course_places(output: Path) -> tuple[Path, Path]:
    """Where the course of a training goes beside weights: the file of its numbers, the folder of its curves."""
    return output.with_suffix(f".{METRICS}"), output.with_suffix(f".{CURVES}")


def require_course_places(output: Path) -> None:
    """Looks before a training whether its course can be put beside the weights.

    Raises:
        OutputError: Something else has a name that it needs.

    """
    log, curves = course_places(output)
    for place, fits, kind in ((log, log.is_file(), "file"), (curves, curves.is_dir(), "folder")):
        if place.is_symlink() or (place.exists() and not fits):
            raise OutputError(
                asked=f"keep the course of the training beside {output.name}",
                found=f"{place.name}, which is no {kind}",
                fix="move it away, or name another output",
            )


def copy_curves(training: Path, place: Path) -> None:
    """Puts the curves of a training at a place of their own, instead of those that were there; none where it drew none.

    Other files there stay.
    """
    remove_curves(place)
    if (training / CURVES).is_dir():
        shutil.copytree(training / CURVES, place, dirs_exist_ok=True)


def remove_curves(place: Path) -> None:
    """Takes away what TensorBoard wrote there, and the folders that are empty then."""
    _remove(place, _EVENTS)


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


def remove_courses(place: Path) -> None:
    """Takes away what `copy_courses` put there, and the folders that are empty then; other files stay.

    Raises:
        OutputError: Something can't be removed.

    """
    try:
        _remove(place, METRICS, _EVENTS)
    except OSError as error:
        raise OutputError(
            asked=f"replace the courses in {place}",
            found=str(error),
            fix="remove them yourself, or name another folder",
        ) from error


def _remove(place: Path, *patterns: str) -> None:
    for file in [file for pattern in patterns for file in place.rglob(pattern)]:
        file.unlink()
    for folder in (*sorted((path for path in place.rglob("*") if path.is_dir()), reverse=True), place):
        with contextlib.suppress(OSError):  # there is something else in it, or it is not there
            folder.rmdir()
