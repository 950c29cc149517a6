"""Where a recipe's model, or a student of it, comes from: each part checked as far as no code need run."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import ModelSource
from edgeport.recipe.errors import KeyPath, RecipeText, nearest
from edgeport.recipe.locations import CHECKPOINTS, FILES, FUNCTION, SCHEMES, located

if TYPE_CHECKING:
    from edgeport.recipe.sections import RecipeFile

__all__ = ["existing_file", "named_source", "read_source"]


def existing_file(recipe: RecipeText, key: KeyPath, name: str) -> Path:
    """The file of that name, which may start where the recipe lies.

    Raises:
        RecipeError: It is not there, or is a folder.

    """
    path = recipe.path.parent / name
    if not path.is_file():
        beside = [file.name for file in path.parent.iterdir() if file.is_file()] if path.parent.is_dir() else []
        what = "is a folder" if path.is_dir() else f"is not there; paths start at {recipe.path.parent}"
        raise recipe.wrong_value(key, what, nearest(path.name, beside) or "give the path of a file that exists")
    return path


def read_source(recipe: RecipeText, sections: RecipeFile) -> ModelSource:
    """Of [model].

    Raises:
        RecipeError: It names no model, or weights that are not there or not wanted.

    """
    model = sections.model
    keys = {name: ("model", name) for name in ("source", "arguments", "weights")}
    return named_source(
        recipe,
        keys,
        model.source,
        arguments=model.arguments,
        weights=model.weights,
        allow_pickle_sha256=_allowed_pickle(recipe, sections),
    )


def named_source(
    recipe: RecipeText,
    keys: Mapping[str, KeyPath],
    location: str,
    *,
    arguments: Mapping[str, Any],
    weights: str | None,
    allow_pickle_sha256: str | None = None,
) -> ModelSource:
    """What a location, arguments and weights name together.

    Args:
        recipe: Whose folder paths start at.
        keys: Where "source", "arguments" and "weights" stand in it.
        location: As the user wrote it.
        arguments: Of the factory.
        weights: A file, or None.
        allow_pickle_sha256: As in `ModelSource`.

    Raises:
        RecipeError: As in `read_source`.

    """
    key = keys["source"]
    if location in SCHEMES:
        raise recipe.wrong_value(key, "names no model behind the colon", f'write it as "{location}NAME"')
    if location.startswith(SCHEMES):
        pass  # what is behind the colon is its loader's to judge
    elif location.endswith(FILES):
        existing_file(recipe, key, location)
    elif ".py:" in location:
        raise recipe.wrong_value(key, "names a file, not a module", f'did you mean "{location.replace(".py:", ":")}"?')
    elif location.endswith(CHECKPOINTS):
        raise recipe.wrong_value(
            key,
            "is a checkpoint: it holds weights, not the model",
            f'give {keys["source"][-1]} = "pkg.mod:factory" and {keys["weights"][-1]} = "{location}"',
        )
    elif not FUNCTION.fullmatch(location):
        near = nearest(location.split(":", maxsplit=1)[0] + ":", SCHEMES) if ":" in location else ""
        raise recipe.wrong_value(
            key,
            "is no model",
            near
            or "give pkg.mod:factory, a .pt2 or .onnx file, torchvision:NAME, timm:NAME, hf:FOLDER or ultralytics:FILE",
        )
    _refuse_dates(recipe, keys["arguments"], arguments)
    file = None if weights is None else existing_file(recipe, keys["weights"], weights)
    location, folder = located(location, recipe.path.parent)
    carries = location.endswith((*FILES, ".pt")) or location.startswith("hf:")
    if file is not None and carries and (location.endswith(FILES) or not _is_pruned(file)):
        raise recipe.error(keys["weights"], "the source carries its weights already", "remove this line")
    return ModelSource(
        location=location,
        arguments=arguments,
        weights=file,
        search_path=folder,
        allow_pickle_sha256=allow_pickle_sha256,
    )


def _is_pruned(weights: Path) -> bool:
    """What was pruned of such a source takes the place of what it carries."""
    from edgeport.exporter.structure.pruned_weights import is_pruned

    return is_pruned(weights)


def _allowed_pickle(recipe: RecipeText, sections: RecipeFile) -> str | None:
    allowed = sections.model.allow_pickle_sha256
    key = ("model", "allow_pickle_sha256")
    if allowed is None:
        return None
    if not sections.model.source.startswith("ultralytics:"):
        raise recipe.error(
            key, "the source is no checkpoint of Ultralytics, and nothing else may run code", "remove this line"
        )
    if not re.fullmatch(r"[0-9a-fA-F]{64}", allowed):
        raise recipe.wrong_value(key, "is no SHA-256", "give the 64 hexadecimal digits that sha256sum prints")
    return allowed.lower()


def _refuse_dates(recipe: RecipeText, key: KeyPath, value: Any) -> None:
    if isinstance(value, dt.date | dt.time | dt.datetime):
        raise recipe.wrong_value(key, "is a date, which no argument can be", "put it in quotes")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in items:
        _refuse_dates(recipe, (*key, part), inner)
