"""A file of raw samples as a file of what a model takes, for the commands that do a single step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.contracts import Array, Limits, OnnxModel, Preprocessing, Sample, TensorSpec
from edgeport.errors import UsageError
from edgeport.isolation import run_isolated
from edgeport.npz import save_npz
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import BATCH

__all__ = ["checked_samples", "preparation_for", "prepare", "prepared_file", "read_samples"]

ALL_SAMPLES = 1 << 62
"""A batch size that no set reaches."""


def preparation_for(recipe: Path | None, inputs: Sequence[TensorSpec]) -> Preparation:
    """What a recipe declares for the inputs of a model; nothing where no recipe is given.

    A model that takes uint8 where `fold` is declared has the rest of the preprocessing in its graph; one that takes
    floats has not, and gets all of it.

    Raises:
        RecipeError: The recipe can't be read.
        UsageError: It declares no preprocessing.

    """
    if recipe is None:
        return Preparation()
    from edgeport.recipe import load_recipe

    preparation = replace(Preparation.of(load_recipe(recipe)), raw=True)
    if not preparation.does_something:
        raise UsageError(
            asked=f"preprocess raw samples as {recipe.name} declares it",
            found="no [inputs.NAME.preprocess] in it",
            fix="add one, or leave out --preprocess where the samples are what the model takes",
        )
    taken = {spec.name: spec.dtype for spec in inputs}
    return replace(preparation, inputs=tuple(_as_taken(spec, taken.get(spec.name, "")) for spec in preparation.inputs))


def _as_taken(spec: TensorSpec, dtype: str) -> TensorSpec:
    declared = spec.preprocessing
    if isinstance(declared, Preprocessing) and declared.fold and dtype != "uint8":
        return replace(spec, preprocessing=replace(declared, fold=""))
    return spec


def prepared_file(
    samples: Path, preparation: Preparation, folder: Path, limits: Limits, *, target: str = "", count: int | None = None
) -> Path:
    """An `.npz` with what devices feed, and the target under its own name; in a child, since functions may take part.

    Args:
        samples: `.npz` with raw samples.
        preparation: What is done; where it does nothing, `samples` itself is returned.
        folder: Gets the file; where preprocessing is folded, `unfolded.npz` too: as the float model takes it.
        limits: Of the child.
        target: Name of an array that is no input.
        count: No more than these, from the start.

    Raises:
        SamplesError: They can't be read or prepared.

    """
    if not preparation.does_something:
        return samples
    folder.mkdir(parents=True, exist_ok=True)
    payload = {
        "samples": str(samples.resolve()),
        "target": target,
        "count": count,
        "folder": str(folder),
        **preparation.as_payload(),
    }
    run_isolated("edgeport.pipeline.datasets.raw_files:prepare", payload, limits=limits)
    return folder / "prepared.npz"


def checked_samples(path: Path, model: OnnxModel, target: str = "") -> Sample:
    """All samples of a `.npz`, as the model takes them.

    Raises:
        SamplesError: Damaged, or of other names, shapes or dtypes than the model's inputs.

    """
    from edgeport.calibration.data import ArraySamples, check_samples

    sample = read_samples(path, target)
    check_samples(ArraySamples(sample.feeds), model.inputs)
    return sample


def read_samples(path: Path, target: str = "", *, count: int = ALL_SAMPLES) -> Sample:
    """The first `count` samples of a `.npz` as one batch.

    Raises:
        SamplesError: Missing, damaged, of unequal lengths, with Python objects, or without the target.

    """
    from edgeport.calibration.data import NpzSamples

    return next(iter(NpzSamples(path, target or None, count)))


def prepare(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes raw samples as devices feed them.

    Args:
        payload: `samples` (`.npz`), `target` (its key, or ""), `count` (or None for all), `preparation`, and `folder`,
            which gets `prepared.npz` and, where preprocessing is folded, `unfolded.npz`.

    """
    import numpy as np

    from edgeport.calibration.data import NpzSamples

    preparation, target, folder = Preparation.from_payload(payload), payload["target"], Path(payload["folder"])
    batch = min(BATCH, payload["count"] or BATCH)
    prepared: list[dict[str, Array]] = []
    unfolded: list[dict[str, Array]] = []
    count = 0
    for sample in preparation.prepared(NpzSamples(Path(payload["samples"]), target or None, batch)):
        prepared.append({**sample.feeds, **({target: sample.target} if sample.target is not None else {})})
        if preparation.folded:
            unfolded.append(preparation.unfolded(sample.feeds))
        count += len(sample)
        if payload["count"] is not None and count >= payload["count"]:
            break
    for name, parts in (("prepared", prepared), ("unfolded", unfolded)):
        if parts:
            whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            save_npz(folder / f"{name}.npz", whole)
    return {}
