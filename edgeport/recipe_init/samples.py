"""What the samples are that a user gave: where they lie, what is in them, how many there are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeport.contracts import Limits, to_jsonable
from edgeport.contracts.recipe import SamplesLocation, SamplesTable
from edgeport.isolation import run_isolated
from edgeport.recipe_init.sample_formats import SampleFormat

__all__ = ["FoundSamples", "find_samples", "location_beside"]

_TABLES = (".csv", ".tsv")


@dataclass(frozen=True, kw_only=True)
class FoundSamples:
    """One sample set, looked at.

    Attributes:
        text: As the recipe writes it.
        location: As the recipe reads that.
        count: Number of samples.
        first: `.npz` with two of them, where they are arrays.
        has_target: Labels come with the samples, as a function or class folders give them.
        form: How they come.
        facts: What else is known, by form (`look_at_samples`).

    """

    text: str
    location: SamplesLocation
    count: int
    first: Path
    has_target: bool
    form: SampleFormat
    facts: Mapping[str, Any]


def location_beside(text: str, folder: Path) -> str:
    """A path given in the current folder as a recipe in `folder` writes it; other locations as they are."""
    path = Path(text)
    if not path.exists():
        return text
    absolute, start = path.absolute(), folder.absolute()
    return absolute.relative_to(start).as_posix() if absolute.is_relative_to(start) else os.fspath(absolute)


def find_samples(text: str, folder: Path, scratch: Path, limits: Limits, *, target: str) -> FoundSamples:
    """Opens a set in a child, and keeps its first samples.

    Args:
        text: As the user wrote it, in the current folder.
        folder: Of the recipe.
        scratch: Gets the `.npz`.
        limits: Of the child.
        target: Key of the labels, where the user named it.

    Raises:
        RecipeError: No such place.
        SamplesError: Not readable.

    """
    written = location_beside(text, folder)
    location = _parsed(written, folder)
    first = scratch / f"first-{len(list(scratch.iterdir()))}.npz"
    payload = {"location": to_jsonable(location), "first": str(first), "target": target}
    found = run_isolated(
        "edgeport.recipe_init.sample_formats:look_at_samples", payload, limits=limits, asked="read the samples"
    )
    return FoundSamples(
        text=written,
        location=location,
        count=found["count"],
        first=first,
        has_target=found["has_target"],
        form=SampleFormat(found["form"]),
        facts=found["facts"],
    )


def _parsed(text: str, folder: Path) -> SamplesLocation:
    """As a recipe with this line reads it: there is one way to read locations."""
    from edgeport.recipe.build import build
    from edgeport.recipe.mistakes import RecipeText
    from edgeport.recipe.sections import RecipeFile

    path = folder / text
    if path.suffix.lower() in _TABLES and path.is_file():
        return SamplesTable(path=path, columns={})  # which feed what, the model tells
    values = {
        "model": {"source": "timm:any"},
        "data": {"evaluation": text, "metric": "agreement"},
        "target": [{"backend": "onnxruntime", "precisions": ["fp32"]}],
    }
    written = RecipeText(path=folder / "the samples given", text="", values=values)
    return build(written, RecipeFile.model_validate(values)).data.evaluation
