"""Sample sets, opened from where a recipe says they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import SampleSet, TensorSpec, digest_file, load_json, to_jsonable
from edgeport.contracts.recipe import SamplesFile, SamplesFolder, SamplesFunction, SamplesLocation, SamplesTable
from edgeport.errors import SamplesError
from edgeport.npz import made_of

if TYPE_CHECKING:
    from edgeport.calibration.data import ArrayRole, SequenceLayout

__all__ = ["BATCH", "location_from_json", "location_named", "location_state", "open_samples"]

BATCH = 32
"""Samples in one, where nobody says how many."""


def open_samples(
    location: SamplesLocation,
    target: str,
    *,
    inputs: Sequence[TensorSpec] = (),
    raw: bool = True,
    batch_size: int = BATCH,
    arrangement: Mapping[str, Any] | None = None,
) -> SampleSet:
    """Opens a sample set; a `.npz` or table without the target is a set without labels (see `require_target`).

    Args:
        location: Where it is.
        target: Name of the labels; empty where they have none.
        inputs: The model's, as far as they are known: what has no names is for the only one of them.
        raw: The preprocessing that inputs declare follows.
        batch_size: Samples in a batch.
        arrangement: A `SequenceLayout` as JSON values, where there are sequences or lengths.

    Raises:
        SamplesError: It can't be read, or what it has is for no input that is known.

    """
    from edgeport.calibration import data

    how = load_json(data.SequenceLayout, json.dumps(arrangement)) if arrangement else data.SequenceLayout()
    wants = data.wanted(inputs, raw=raw)
    if isinstance(location, SamplesTable):
        wants = {**_beside(how), **wants}
    samples = _opened(location, target, wants, batch_size)
    return samples if how.is_plain else data.SequenceSamples(samples, how)


def _beside(how: SequenceLayout) -> dict[str, ArrayRole]:
    """Arrays that feed no input, for those who read text: lengths are integers, sequences have any names."""
    from edgeport.calibration.data import ArrayRole

    dtypes = dict.fromkeys(how.lengths.values(), "int64")
    if isinstance(how.sequence, str) and how.sequence:
        dtypes.setdefault(how.sequence, "string")
    specs = (TensorSpec(name=name, dtype=dtype, shape=("batch",)) for name, dtype in dtypes.items())
    return {spec.name: ArrayRole(name=spec.name, spec=spec) for spec in specs}


def _opened(location: SamplesLocation, target: str, wants: dict[str, ArrayRole], batch_size: int) -> SampleSet:
    from edgeport.calibration import data

    if isinstance(location, SamplesFunction):
        return data.FunctionSamples(
            location.function, search_path=location.search_path, wants=wants, target=target, batch_size=batch_size
        )
    if isinstance(location, SamplesFolder):
        return data.FolderSamples(
            location.path,
            data.sole(wants, f"the folder {location.path.name!r}"),
            classes=location.classes,
            sample_rate=location.sample_rate,
            batch_size=batch_size,
        )
    if isinstance(location, SamplesTable):
        return data.TableSamples(
            location.path,
            location.columns,
            wants=wants,
            target=target if target in data.columns_of(location.path) else "",
            classes=location.classes,
            batch_size=batch_size,
        )
    if location.path.suffix.lower() == ".npy":
        return data.NpySamples(location.path, data.sole(wants, location.path.name).name, batch_size)
    key: str | None = None
    if target:
        import numpy as np

        with np.load(location.path, allow_pickle=False) as file:
            key = target if target in file.files else None
    return data.NpzSamples(location.path, key, batch_size)


def location_from_json(values: dict[str, Any]) -> SamplesLocation:
    """The location that `to_jsonable` wrote."""
    if "function" in values:
        search_path = values["search_path"]
        return SamplesFunction(function=values["function"], search_path=Path(search_path) if search_path else None)
    path = Path(values["path"])
    if "columns" in values:
        columns = {name: of if isinstance(of, str) else tuple(of) for name, of in values["columns"].items()}
        return SamplesTable(path=path, columns=columns, classes=tuple(values["classes"]))
    if "labelled" in values:
        rest = {"sample_rate": values["sample_rate"], "labelled": values["labelled"]}
        return SamplesFolder(path=path, classes=tuple(values["classes"]), **rest)
    return SamplesFile(path=path, made=values.get("made", ""))


def location_named(samples: Path | str) -> SamplesLocation:
    """A path or a function, as commands are given it: one with a colon that is no file names a function.

    Raises:
        SamplesError: It is not there, or needs what only a recipe can say.

    """
    text = str(samples)
    if isinstance(samples, str) and ":" in text and not Path(text).exists():
        return SamplesFunction(function=text, search_path=Path.cwd())
    path = Path(text)
    if path.is_dir():
        return SamplesFolder(path=path.resolve(), labelled=any(entry.is_dir() for entry in path.iterdir()))
    if not path.is_file():
        raise SamplesError(
            asked=f"take samples from {text}",
            found="no such file",
            fix="give a folder of images or .wav files, a .npz or .npy file, or a function as pkg.mod:function",
            details={"problem": "file"},
        )
    if path.suffix.lower() in (".csv", ".tsv"):
        raise SamplesError(
            asked=f"take samples from {text}",
            found="a table, whose columns must be named",
            fix="say in a recipe which columns feed which input ([data] columns), and use `edgeport run`",
            details={"problem": "file"},
        )
    return SamplesFile(path=path.resolve(), made=made_of(path))


def location_state(location: SamplesLocation | None) -> dict[str, Any] | None:
    """What the samples of a location rest on, as far as it can be told without calling anything: contents, settings."""
    if location is None or isinstance(location, SamplesFunction):
        return None
    settings = {key: value for key, value in to_jsonable(location).items() if key != "path"}
    if isinstance(location, SamplesFolder):
        from edgeport.calibration.data import digest_folder, list_folder

        return {"digest": digest_folder(list_folder(location.path)), **settings}
    return {"digest": digest_file(location.path), "kind": location.path.suffix.lower(), **settings}
