"""Logs of trainings beside what came of them: JSON lines, and curves for TensorBoard where that is installed."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from edgeport.errors import OutputError

__all__ = [
    "CURVES",
    "METRICS",
    "copy_curves",
    "copy_training_log",
    "copy_training_logs",
    "log_places",
    "merge_training_logs",
    "remove_curves",
    "remove_training_log",
    "remove_training_logs",
    "require_log_places",
]

METRICS = "metrics.jsonl"
CURVES = "tensorboard"
"""Name of their folder in a training's own; and ending of one beside weights: `NAME.tensorboard`."""
_EVENTS = "events.out.tfevents.*"


def log_places(output: Path) -> tuple[Path, Path]:
    """Where the log of a training goes beside weights: the file of its numbers, the folder of its curves."""
    return output.with_suffix(f".{METRICS}"), output.with_suffix(f".{CURVES}")


def require_log_places(output: Path) -> None:
    """Looks before a training whether its log can be put beside the weights.

    Raises:
        OutputError: Something else has a name that it needs.

    """
    log, curves = log_places(output)
    for place, fits, kind in ((log, log.is_file(), "file"), (curves, curves.is_dir(), "folder")):
        if place.is_symlink() or (place.exists() and not fits):
            raise OutputError(
                asked=f"keep the course of the training beside {output.name}",
                found=f"{place.name}, which is no {kind}",
                fix="move it away, or name another output",
            )


def copy_training_log(training: Path, output: Path) -> Path:
    """Puts metrics and curves of a training beside its weights; returns the file of the metrics."""
    log, curves = log_places(output)
    shutil.copyfile(training / METRICS, log)
    copy_curves(training, curves)
    return log


def merge_training_logs(folder: Path, output: Path) -> Path:
    """The numbers of all trainings beside the output, a JSON object per line, each with the step that it followed.

    Args:
        folder: With a folder `step-N` for each.
        output: The pruned file; `NAME.metrics.jsonl` and `NAME.tensorboard/step-N` come beside it.

    """
    log, curves = log_places(output)
    remove_curves(curves)
    folders = sorted(folder.glob("step-*"), key=lambda one: int(one.name.removeprefix("step-")))
    lines = [
        json.dumps({"after": int(one.name.removeprefix("step-")), **json.loads(line)})
        for one in folders
        for line in (one / METRICS).read_text(encoding="utf-8").splitlines()
    ]
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for one in folders:
        copy_curves(one, curves / one.name)
    return log


def remove_training_log(output: Path) -> None:
    """Removes the log of a training whose weights are written over by such that nobody trained."""
    log, curves = log_places(output)
    log.unlink(missing_ok=True)
    remove_curves(curves)


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


def copy_training_logs(folder: Path, place: Path) -> Path | None:
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


def remove_training_logs(place: Path) -> None:
    """Takes away what `copy_training_logs` put there, and the folders that are empty then; other files stay.

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
