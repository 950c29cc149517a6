"""The output folder of a run: bundle, report, result."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeport.contracts import ORIGINAL, Array, OnnxModel, PreprocessingFunction, RunResult, Target
from edgeport.errors import ContractError, DependencyError, OutputError
from edgeport.module_files import module_file
from edgeport.npz import load_npz
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.output.provenance import class_output, provenance_of
from edgeport.pipeline.output.training_logs import copy_training_logs, remove_training_logs
from edgeport.ragged import RaggedBatch

__all__ = ["prepare_output", "remove_unused", "write_output", "write_summary"]


_RESULT, _REPORT, _BUNDLE, _COURSES = "result.json", "report.html", "bundle", "courses"
_LARGEST_RESULT_BYTES = 200 << 20


def prepare_output(folder: Path, names: Sequence[str] = ()) -> tuple[Path, ...]:
    """Makes the folder, before hours of work are spent on something that can't be written.

    An earlier run's answer is taken away, so that it can't be taken for this run's, also of targets that the recipe no
    longer names; other files stay. All is checked before anything is removed.

    Args:
        folder: Of the run.
        names: Of the targets, which get a folder each; checked by `Target`.

    Returns:
        The folders that it made, the outer ones first.

    Raises:
        OutputError: A link or a file of that name, or no right to write there; or `bundle/`, `courses/`, `report.html`
            or `result.json` in it, or in a target's folder, is a link, or not what a run writes there, or the bundle
            holds other files too.

    """
    made = _make(folder)
    try:
        made += _make_room(folder, names)
    except BaseException:
        remove_unused(made)
        raise
    return made


def remove_unused(made: Sequence[Path]) -> None:
    """Takes away those of the folders that `prepare_output` made in which nothing lies, for a run that failed."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # there is something in it
            folder.rmdir()


def _make_room(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    from edgeport.bundle import check_place, remove_bundle

    _check_answer(folder / _RESULT)
    places = [folder, *(folder / name for name in dict.fromkeys((*names, *_earlier_names(folder / _RESULT))))]
    for place in places:
        _check_folder(place)
        _check_folder(place / _COURSES)
        _check_answer(place / _REPORT)
        check_place(place / _BUNDLE)
    (folder / _RESULT).unlink(missing_ok=True)
    for place in places:
        (place / _REPORT).unlink(missing_ok=True)
        remove_bundle(place / _BUNDLE)
        remove_training_logs(place / _COURSES)
        if place != folder and place.name not in names and place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    made: list[Path] = []
    for name in names:
        made += _make(folder / name)
    return tuple(made)


def _make(folder: Path) -> tuple[Path, ...]:
    """The folder, and those that lead there; returns those that were not there."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(
            asked=f"write to {folder}",
            found="a link" if folder.is_symlink() else "a file of that name",
            fix="name another folder with --output",
        )
    missing = tuple(path for path in (*reversed(folder.parents), folder) if not path.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(asked=f"write to {folder}", found=str(error), fix="name a folder you may write to") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(asked=f"write to {folder}", found="no right to write there", fix="name another folder")
    return missing


def _earlier_names(result: Path) -> list[str]:
    """The targets that an earlier run's result names; none where it can't be read, and only what can be a name."""
    try:
        if not result.is_file() or result.stat().st_size > _LARGEST_RESULT_BYTES:
            return []
        found = [one["target"] for one in json.loads(result.read_bytes())["targets"]]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []
    return [name for name in found if isinstance(name, str) and name and _is_name(name)]


def _is_name(name: str) -> bool:
    try:
        Target(name=name, backend="onnxruntime")
    except ContractError:
        return False
    return True


def _check_folder(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(
            asked=f"write to {path}",
            found="a link" if path.is_symlink() else "a file of that name",
            fix="remove it, or name another folder with --output",
        )


def _check_answer(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(
            asked=f"write {path}",
            found=f"{'a link' if path.is_symlink() else 'a folder'} of that name",
            fix="remove it, or name another folder with --output",
        )


def write_output(
    context: RunContext, result: RunResult, samples: PreparedSamples, outputs: Path | None, model: OnnxModel
) -> RunResult:
    """Writes the report and, where something ships, the bundle; returns the result with their places.

    Args:
        context: Of the run.
        result: What was found.
        samples: Of the run.
        outputs: `.npz` with the chosen candidate's outputs over the evaluation set.
        model: That the chosen candidate is made from.

    """
    result = replace(result, bundle=result.folder / _BUNDLE if result.chosen else None)
    result = _with_report(_with_courses(result))
    if result.chosen and outputs is not None:
        _write_bundle(context, result, samples, outputs, model)
    return result


def write_summary(result: RunResult) -> RunResult:
    """Writes the page that lists the targets of a run, and links those of several to it; returns it with its place.

    A bundle's copy of a page has no such link, since a bundle goes elsewhere.
    """
    from edgeport.report import write_report

    summed = _with_report(result)
    if summed.report is not None and len(result.targets) > 1:
        for one in result.targets:
            if one.report is not None:
                write_report(one, one.report, summary=f"../{_REPORT}")
    return summed


def _with_courses(result: RunResult) -> RunResult:
    """The course of each training of [[compress]], from the store to `courses/` in a folder of its candidate's name."""
    rows = []
    for row in result.compression:
        place = result.folder / _COURSES / re.sub(r"[^\w.]+", "-", row.candidate)
        found = copy_training_logs(row.courses, place) if row.courses is not None else None
        rows.append(replace(row, courses=found))
    return replace(result, compression=tuple(rows))


def _with_report(result: RunResult) -> RunResult:
    from edgeport.report import write_report

    with_path = replace(result, report=result.folder / _REPORT)
    try:
        write_report(with_path, result.folder / _REPORT)
    except DependencyError as error:
        return replace(result, notes=(*result.notes, f"No report.html: {error.reason}."))
    return with_path


def _write_bundle(
    context: RunContext, result: RunResult, samples: PreparedSamples, outputs: Path, model: OnnxModel
) -> None:
    from edgeport.bundle import BundleContents, write_bundle

    candidate = result.candidate(result.chosen)
    sample, expected, begins = _recorded(model, samples, outputs, candidate.execution.batch)
    contents = BundleContents(
        name=result.name,
        target=result.target,
        candidate=candidate,
        model=model,
        budget=result.budget,
        device=result.device,
        versions=result.versions,
        sample=sample,
        expected=expected,
        begins=begins,
        axes=context.recipe.axes,
        labels=context.recipe.data.labels,
        class_output=class_output(context.recipe.data, model),
        provenance=provenance_of(context, samples, _steps_to(result, candidate.variant)),
        data_free=candidate.needs_ranges and bool(getattr(context.recipe.data.calibration, "made", "")),
        report=result.report,
        modules=_shipped(context, model),
    )
    write_bundle(contents, result.folder / _BUNDLE)


def _steps_to(result: RunResult, variant: str) -> tuple[str, ...]:
    """What was done to the model that ships; nothing to the one that the recipe names."""
    done = [row for row in result.compression if row.variant != ORIGINAL and not row.problem]
    there = [row for row in done if variant == row.variant or variant.startswith(f"{row.variant} + ")]
    return tuple(dict.fromkeys(row.step for row in there))


def _recorded(
    model: OnnxModel, samples: PreparedSamples, outputs: Path, batch: int
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """The sample of the bundle, what the artifact answered to it, and what its state begins with.

    It is the first call; of samples of several shapes the timed one, and of sequences the first steps.
    """
    states = tuple(model.state.values())
    fed = RaggedBatch.of(load_npz(samples.single if samples.is_ragged or states else samples.feeds), states)
    answered = RaggedBatch.of(load_npz(outputs))
    if states:
        alike = next(fed.runs(len(fed)))[1]
        return fed.cut(0, alike), answered.cut(0, alike), dict(fed.state)
    if samples.is_ragged:
        return fed.cut(0, 1), answered.cut(samples.timed_row, samples.timed_row + 1), {}
    return fed.cut(0, batch), answered.cut(0, batch), {}


def _shipped(context: RunContext, model: OnnxModel) -> dict[str, Path]:
    """Files of the modules whose functions preprocess in the bundle too."""
    found: dict[str, Path] = {}
    for spec in model.inputs:
        declared = spec.preprocessing
        if isinstance(declared, PreprocessingFunction) and declared.ship:
            name = declared.function.partition(":")[0]
            file = module_file(name, Preparation.of(context.recipe).search_path)
            if file is None or file.suffix != ".py" or file.stem != name:
                raise OutputError(
                    asked=f"ship {declared.function} in the bundle (ship = true of input {spec.name!r})",
                    found="a package" if file is not None else "no source file of its module",
                    fix="put the function into one file beside the recipe, or leave out ship",
                )
            found[name] = file
    return found
