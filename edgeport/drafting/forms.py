"""What samples look like before a model's inputs are known: arrays by name, one array, a table, images, sounds.

`look_at_samples` is a child's entry: it opens what the user gave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import Array, PreprocessingFunction, Sample, TensorSpec
from edgeport.contracts.recipe import SamplesFile, SamplesFolder, SamplesLocation, SamplesTable
from edgeport.drafting.assign import require_target
from edgeport.drafting.columns import GAPS
from edgeport.errors import SamplesError
from edgeport.npz import save_npz

__all__ = ["Form", "form_of", "look_at_samples"]

_FIRST = 2
_LOOKED_AT = 256
"""Files of a folder that are read; what is odd in the others, a run says."""

_NAME = "samples"

_MOST_CLASSES = 10_000
_NOTHING = ("", "-", "?", "na", "n/a", "none", "null")
"""What tables have where a value is missing."""


class Form(StrEnum):
    """How samples come."""

    NAMED = "named"
    """Arrays by name: a `.npz`, or a function."""
    ARRAY = "array"
    """One array without a name: a `.npy`."""
    TABLE = "table"
    """Columns of text: `.csv`, `.tsv`."""
    IMAGES = "images"
    """A folder of files, or one for each class."""
    SOUNDS = "sounds"
    """The same, of WAV files."""


def form_of(location: SamplesLocation) -> Form:
    """The form that a location has; of a folder by its first file.

    Raises:
        SamplesError: A folder of something else.

    """
    if isinstance(location, SamplesTable):
        return Form.TABLE
    if isinstance(location, SamplesFolder):
        from edgeport.calibration.data import list_folder

        return Form(list_folder(location.path).kind)
    is_array = isinstance(location, SamplesFile) and location.path.suffix.lower() == ".npy"
    return Form.ARRAY if is_array else Form.NAMED


def look_at_samples(payload: dict[str, Any]) -> dict[str, Any]:
    """Opens a set, and keeps what tells how it fits a model.

    Args:
        payload: `location`, `first` (the `.npz` that gets two samples, where they are arrays) and `target`.

    Returns:
        `count`, `has_target` (labels come with each sample), `form` and `facts`: of images `size` ([height, width] of
        the first), `alike` (all that were looked at have it) and `classes` (names of class folders); of sounds
        `length` (the median), `alike`, `rate` in Hz and `classes`; of a table `columns` (name to "whole", "number",
        "text" or "gaps"), `first` (the cells of its first two rows by column) and `texts` (what stands in columns of
        text).

    Raises:
        SamplesError: Not readable, or empty.

    """
    from edgeport.pipeline.locations import location_from_json

    location = location_from_json(payload["location"])
    form = form_of(location)
    if isinstance(location, SamplesTable):
        return {"form": form, "has_target": False, **_table(location.path)}
    if isinstance(location, SamplesFolder):
        return {"form": form, "has_target": location.labelled, **_folder(location, form)}
    return {"form": form, "facts": {}, **_arrays(location, payload)}


def _arrays(location: SamplesLocation, payload: dict[str, Any]) -> dict[str, Any]:
    from edgeport.pipeline.locations import open_samples

    target = "" if isinstance(location, SamplesFile) else payload["target"]
    samples = open_samples(location, target, inputs=(TensorSpec(name=_NAME, dtype="float32", shape=("batch",)),))
    batch = next(iter(samples), None)
    if batch is None:
        raise SamplesError(
            asked=f"look at the samples of {location.location}", found="none", fix="give at least one sample"
        )
    if isinstance(location, SamplesFile):
        require_target(payload["target"], batch.feeds, "a file with the arrays")
    feeds = {name: array[:_FIRST] for name, array in batch.feeds.items()}
    if len(batch) < _FIRST:  # a batch of one: its sample twice does for shapes
        feeds = {name: np.concatenate([array, array]) for name, array in feeds.items()}
    save_npz(Path(payload["first"]), feeds)
    return {"count": len(samples), "has_target": batch.target is not None}


def _folder(location: SamplesFolder, form: Form) -> dict[str, Any]:
    from edgeport.calibration.data import FolderSamples, Wanted

    # As a function would get them: each in its own size.
    raw = PreprocessingFunction(function="any:function")
    spec = TensorSpec(name=_NAME, dtype="float32", shape=("batch",), preprocessing=raw)
    samples = FolderSamples(location.path, Wanted(name=_NAME, spec=spec, preprocessing=raw), batch_size=1)
    shapes = [array.shape[1:] for array in islice(_only(samples), _LOOKED_AT)]
    facts: dict[str, Any] = {"classes": list(samples.class_folders), "alike": len(set(shapes)) == 1}
    if form is Form.SOUNDS:
        facts |= {"length": int(np.median([shape[0] for shape in shapes])), "rate": samples.sample_rate}
    else:
        facts |= {"size": list(Counter(shapes).most_common(1)[0][0][:2])}
    return {"count": len(samples), "facts": facts}


def _only(samples: Iterator[Sample] | Any) -> Iterator[Array]:
    return (batch.feeds[_NAME] for batch in samples)


def _table(path: Path) -> dict[str, Any]:
    from edgeport.calibration.data import TableSamples, Wanted, columns_of

    names = columns_of(path)
    wants = {
        name: Wanted(name=name, spec=TensorSpec(name=name or "?", dtype="string", shape=("batch",))) for name in names
    }
    samples = TableSamples(path, {name: name for name in names}, wants=wants)
    kinds = dict.fromkeys(names, "whole")
    first: dict[str, list[str]] = {name: [] for name in names}
    texts: dict[str, set[str]] = {name: set() for name in names}
    for batch in samples:
        for name, cells in batch.feeds.items():
            kinds[name] = _kind(kinds[name], cells)
            if len(texts[name]) <= _MOST_CLASSES:
                texts[name].update(map(str, cells))
            first[name] += [str(cell) for cell in cells[: max(0, _FIRST - len(first[name]))]]
    kinds |= {name: GAPS for name, kind in kinds.items() if kind == "text" and _has_gaps(texts[name])}
    found = {name: sorted(texts[name]) for name, kind in kinds.items() if kind == "text"}
    return {"count": len(samples), "facts": {"columns": kinds, "first": first, "texts": found}}


def _has_gaps(cells: set[str]) -> bool:
    """All are numbers but for what stands for none."""
    numbers = {cell for cell in cells if cell.strip().lower() not in _NOTHING}
    return "text" not in {_kind("whole", np.array([cell])) for cell in numbers} and 0 < len(numbers) < len(cells)


def _kind(before: str, cells: Array) -> str:
    """The narrowest kind that these cells have too."""
    for kind, read in (("whole", int), ("number", float)):
        if before not in ("whole", kind):
            continue
        try:
            for cell in cells:
                read(str(cell))
        except ValueError:
            continue
        return kind
    return "text"
