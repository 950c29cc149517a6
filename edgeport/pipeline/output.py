"""The output folder of a run: bundle, report, result."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import RunResult
from edgeport.errors import DependencyError, OutputError
from edgeport.pipeline.context import RunContext
from edgeport.pipeline.samples import PreparedSamples

if TYPE_CHECKING:
    from edgeport.contracts import Array

__all__ = ["prepare_output", "write_output"]


_ANSWERS = ("result.json", "report.html")


def prepare_output(folder: Path) -> None:
    """Makes the folder, before hours of work are spent on something that can't be written.

    An earlier run's answer is taken away, so that it can't be taken for this run's; other files stay. All is checked
    before anything is removed.

    Raises:
        OutputError: A link or a file of that name, or no right to write there; or `bundle/`, `report.html` or
            `result.json` in it is a link, or not what a run writes there, or the bundle holds other files too.

    """
    from edgeport.bundle import check_place, remove_bundle

    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(
            asked=f"write to {folder}",
            found="a link" if folder.is_symlink() else "a file of that name",
            fix="name another folder with --output",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(asked=f"write to {folder}", found=str(error), fix="name a folder you may write to") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(asked=f"write to {folder}", found="no right to write there", fix="name another folder")
    for name in _ANSWERS:
        _check_answer(folder / name)
    check_place(folder / "bundle")
    for name in _ANSWERS:
        (folder / name).unlink(missing_ok=True)
    remove_bundle(folder / "bundle")


def _check_answer(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(
            asked=f"write {path}",
            found=f"{'a link' if path.is_symlink() else 'a folder'} of that name",
            fix="remove it, or name another folder with --output",
        )


def write_output(context: RunContext, result: RunResult, samples: PreparedSamples, outputs: Path | None) -> RunResult:
    """Writes the report and, where something ships, the bundle; returns the result with their places.

    Args:
        context: Of the run.
        result: What was found.
        samples: Of the run.
        outputs: `.npz` with the chosen candidate's outputs over the evaluation set.

    """
    result = replace(result, bundle=result.folder / "bundle" if result.chosen else None)
    result = _with_report(result)
    if result.chosen and outputs is not None:
        _write_bundle(context, result, samples, outputs)
    return result


def _with_report(result: RunResult) -> RunResult:
    from edgeport.report import write_report

    with_path = replace(result, report=result.folder / "report.html")
    try:
        write_report(with_path, result.folder / "report.html")
    except DependencyError as error:
        return replace(result, notes=(*result.notes, f"No report.html: {error.found}; {error.fix}."))
    return with_path


def _write_bundle(context: RunContext, result: RunResult, samples: PreparedSamples, outputs: Path) -> None:
    from edgeport.bundle import BundleContents, write_bundle

    candidate = result.candidate(result.chosen)
    rows = candidate.execution.batch
    contents = BundleContents(
        name=result.name,
        candidate=candidate,
        model=result.model,
        budget=result.budget,
        device=result.device,
        versions=result.versions,
        sample=_first(samples.feeds, rows),
        expected=_first(outputs, rows),
        labels=context.recipe.data.labels,
        report=result.report,
    )
    write_bundle(contents, result.folder / "bundle")


def _first(path: Path, rows: int) -> dict[str, Array]:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return {name: file[name][:rows] for name in file.files}
