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

from edgeport.accuracy.metrics import is_one_hot
from edgeport.contracts import Array, PreprocessingFunction, Sample, TensorSpec
from edgeport.contracts.recipe import SamplesFile, SamplesFolder, SamplesFunction, SamplesLocation, SamplesTable
from edgeport.errors import SamplesError
from edgeport.npz import save_npz
from edgeport.recipe_init.assign import require_target
from edgeport.recipe_init.columns import GAPS
from edgeport.recipe_init.state_detection import SEQUENCES, first_quarter

__all__ = ["UNNAMED", "SampleFormat", "form_of", "look_at_samples"]

_FIRST = 2
_LOOKED_AT = 256
"""Files of a folder that are read; what is odd in the others, a run says."""

UNNAMED = "samples"
"""Name of an array that came without one."""

_MOST_CLASSES = 10_000
_NOTHING = ("", "-", "?", "na", "n/a", "none", "null")
"""What tables have where a value is missing."""


class SampleFormat(StrEnum):
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


def form_of(location: SamplesLocation) -> SampleFormat:
    """The form that a location has; of a folder by its first file.

    Raises:
        SamplesError: A folder of something else.

    """
    if isinstance(location, SamplesTable):
        return SampleFormat.TABLE
    if isinstance(location, SamplesFolder):
        from edgeport.calibration.data import list_folder

        return SampleFormat(list_folder(location.path).kind)
    is_array = isinstance(location, SamplesFile) and location.path.suffix.lower() == ".npy"
    return SampleFormat.ARRAY if is_array else SampleFormat.NAMED


def look_at_samples(payload: dict[str, Any]) -> dict[str, Any]:
    """Opens a set, and keeps what tells how it fits a model.

    Args:
        payload: `location`, `first` (the `.npz` that gets two samples, where they are arrays) and `target`.

    Returns:
        `count`, `has_target` (labels come with each sample), `form` and `facts`: of images `size` ([height, width] of
        the first), `alike` (all that were looked at have it) and `classes` (names of class folders); of sounds
        `length` (the median), `alike`, `rate` in Hz and `classes`; of a table `columns` (name to "whole", "number",
        "text" or "gaps"), `first` (the cells of its first two rows by column) and `texts` (what stands in columns of
        text); of arrays `arrays` (name to shape of one sample; labels that come with each have the name ""), `dtypes`
        and `labels` (name to the number of values per sample, of those that may be labels of classes: 1 for an index);
        `by_key` says that a key tells the labels, which a function that gives no Dataset does not heed.
        Of tables and arrays that are called as sequences are, `sequences`: name to how many there are, and of those
        behind the first quarter how many and with how many samples.

    Raises:
        SamplesError: Not readable, or empty.

    """
    from edgeport.pipeline.datasets.sources import location_from_json

    location = location_from_json(payload["location"])
    form = form_of(location)
    if isinstance(location, SamplesTable):
        return {"form": form, "has_target": False, **_table(location.path)}
    if isinstance(location, SamplesFolder):
        return {"form": form, "has_target": location.labelled, **_folder(location, form)}
    return {"form": form, **_arrays(location, payload)}


def _arrays(location: SamplesLocation, payload: dict[str, Any]) -> dict[str, Any]:
    from edgeport.pipeline.datasets.sources import open_samples

    target = "" if isinstance(location, SamplesFile) else payload["target"]
    samples = open_samples(location, target, inputs=(TensorSpec(name=UNNAMED, dtype="float32", shape=("batch",)),))
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
    every = {**batch.feeds, **({"": batch.target} if batch.target is not None else {})}
    facts: dict[str, Any] = {
        "arrays": {name: list(array.shape[1:]) for name, array in every.items()},
        "dtypes": {name: "string" if array.dtype.kind in "UTO" else str(array.dtype) for name, array in every.items()},
        "labels": {name: width for name, array in every.items() if (width := _width_of_labels(array))},
    }
    facts["by_key"] = not isinstance(location, SamplesFunction) or _heeds_a_key(location, batch)
    parts: dict[str, list[Array]] = {name: [] for name in batch.feeds if name.lower() in SEQUENCES}
    for one in samples if parts else ():
        for name in parts.keys() & one.feeds.keys():
            parts[name].append(one.feeds[name].reshape(len(one), -1)[:, 0])
    facts["sequences"] = {name: _sequences(np.concatenate(each)) for name, each in parts.items()}
    return {"count": len(samples), "has_target": batch.target is not None, "facts": facts}


def _heeds_a_key(location: SamplesFunction, batch: Sample) -> bool:
    from edgeport.pipeline.datasets.sources import open_samples

    if len(batch.feeds) < 2:
        return False  # there is but an input
    key = next(iter(batch.feeds))
    batch = next(
        iter(open_samples(location, key, inputs=(TensorSpec(name=UNNAMED, dtype="float32", shape=("batch",)),)))
    )
    return key not in batch.feeds


def _width_of_labels(array: Array) -> int:
    """1 for class indices [N] or [N, 1], the number of classes for one-hot rows; 0 for what is neither."""
    if is_one_hot(array):
        return int(array.shape[1])
    is_number = array.dtype.kind in "iuf" and array.shape[1:] in ((), (1,))
    return int(is_number and bool(np.all((array >= 0) & (array == np.trunc(array)))))


def _sequences(names: Array) -> list[int]:
    """How many sequences; behind the first quarter of them, how many and of how many samples."""
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    cut = first_quarter(starts.tolist(), len(names))
    return [len(starts), max(1, int(np.sum(starts >= cut))), len(names) - cut]


def _folder(location: SamplesFolder, form: SampleFormat) -> dict[str, Any]:
    from edgeport.calibration.data import ArrayRole, FolderSamples

    # As a function would get them: each in its own size.
    raw = PreprocessingFunction(function="any:function")
    spec = TensorSpec(name=UNNAMED, dtype="float32", shape=("batch",), preprocessing=raw)
    samples = FolderSamples(location.path, ArrayRole(name=UNNAMED, spec=spec, preprocessing=raw), batch_size=1)
    shapes = [array.shape[1:] for array in islice(_only(samples), _LOOKED_AT)]
    facts: dict[str, Any] = {"classes": list(samples.class_folders), "alike": len(set(shapes)) == 1}
    if form is SampleFormat.SOUNDS:
        facts |= {"length": int(np.median([shape[0] for shape in shapes])), "rate": samples.sample_rate}
    else:
        facts |= {"size": list(Counter(shapes).most_common(1)[0][0][:2])}
    return {"count": len(samples), "facts": facts}


def _only(samples: Iterator[Sample] | Any) -> Iterator[Array]:
    return (batch.feeds[UNNAMED] for batch in samples)


def _table(path: Path) -> dict[str, Any]:
    from edgeport.calibration.data import ArrayRole, TableSamples, columns_of

    names = columns_of(path)
    wants = {
        name: ArrayRole(name=name, spec=TensorSpec(name=name or "?", dtype="string", shape=("batch",)))
        for name in names
    }
    samples = TableSamples(path, {name: name for name in names}, wants=wants)
    kinds = dict.fromkeys(names, "whole")
    first: dict[str, list[str]] = {name: [] for name in names}
    texts: dict[str, set[str]] = {name: set() for name in names}
    parts: dict[str, list[Array]] = {name: [] for name in names if name.strip().lower() in SEQUENCES}
    for batch in samples:
        for name, cells in batch.feeds.items():
            if name in parts:
                parts[name].append(cells)
            kinds[name] = _kind(kinds[name], cells)
            if len(texts[name]) <= _MOST_CLASSES:
                texts[name].update(map(str, cells))
            first[name] += [str(cell) for cell in cells[: max(0, _FIRST - len(first[name]))]]
    kinds |= {name: GAPS for name, kind in kinds.items() if kind == "text" and _has_gaps(texts[name])}
    found = {name: sorted(texts[name]) for name, kind in kinds.items() if kind == "text"}
    sequences = {name: _sequences(np.concatenate(each)) for name, each in parts.items()}
    facts = {"columns": kinds, "first": first, "texts": found, "sequences": sequences}
    return {"count": len(samples), "facts": facts}


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
