"""A file of raw samples as a file of what a model takes, for the commands that do a single step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import Limits, Preprocessing, TensorSpec
from edgeport.errors import UsageError
from edgeport.isolation import run_isolated
from edgeport.pipeline.datasets.preprocessing import Preparation

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["preparation_for", "prepared_file"]


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
    run_isolated("edgeport.pipeline.compilation.worker:prepare", payload, limits=limits)
    return folder / "prepared.npz"
