"""What a recipe says of a model's inputs, held against the model: state, values, axes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edgeport.contracts import OnnxModel, TensorSpec
from edgeport.contracts.model import link_state
from edgeport.contracts.recipe import Recipe
from edgeport.errors import RecipeError
from edgeport.recipe.toml_lines import line_of

__all__ = ["fed_by_others", "linked", "require_links", "states_of_model"]


def linked(model: OnnxModel, recipe: Recipe) -> OnnxModel:
    """The model with the recipe's state."""
    require_links(recipe, model.inputs, model.outputs)
    return replace(model, state=recipe.state)


def fed_by_others(model: OnnxModel, recipe: Recipe) -> tuple[TensorSpec, ...]:
    """The inputs of an ONNX file that have no value in the recipe.

    Raises:
        RecipeError: A value or a range of something that the model has not.

    """
    known = [spec.name for spec in model.inputs]
    _require(recipe, "inputs", [*recipe.constants, *recipe.initial], known, "input")
    axes = {label.rpartition("*")[2] for spec in model.inputs for label in spec.dynamic_axes.values()}
    axes |= {label.rpartition("*")[2] for spec in recipe.inputs for label in spec.dynamic_axes.values()}
    _require(recipe, "axes", recipe.axes, sorted(axes), "free axis")
    return tuple(spec for spec in model.inputs if spec.name not in recipe.constants)


def require_links(recipe: Recipe, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Makes sure that the recipe's state fits the model.

    Raises:
        RecipeError: A name, dtype or shape that does not; with the line in the recipe.

    """
    try:
        link_state(recipe.state, inputs, outputs)
    except RecipeError as error:
        raise _at(recipe, ("state", str(error.details.get("state", ""))), error) from error


def states_of_model(recipe: Recipe, of_model: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The inputs that the model feeds itself, in the order of [state], as declared or as the model has them.

    Raises:
        RecipeError: A declared shape leaves an axis free that is not the batch.

    """
    declared = {spec.name: spec for spec in recipe.inputs}
    own = {spec.name: spec for spec in of_model}
    batch = {spec.shape[0] for spec in recipe.fed if spec.shape} | {"batch"}
    found = []
    for name in recipe.state.values():
        spec = declared.get(name) or own[name]
        strange = [size for size in spec.shape if isinstance(size, str) and size not in batch]
        if name in declared and strange:
            error = RecipeError(
                asked=f"begin the state {name!r}",
                found=f"the shape {list(spec.shape)}, whose axis {strange[0]!r} is not the batch",
                fix="give its size: a state begins with all its values",
            )
            raise _at(recipe, ("inputs", name, "shape"), error)
        found.append(spec)
    return tuple(found)


def _require(recipe: Recipe, section: str, names: Iterable[str], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            error = RecipeError(
                asked=f"use [{section}.{name}]",
                found=f"a model whose {what}s are {', '.join(map(repr, known)) or 'none'}",
                fix=f"did you mean {near[0]!r}?" if near else "name one of them",
            )
            raise _at(recipe, (section, name), error)


def _at(recipe: Recipe, key: tuple[str, ...], error: RecipeError) -> RecipeError:
    """The error, with its line where the recipe is a file."""
    path = recipe.path
    if path is None or not Path(path).is_file():
        return error
    line = line_of(path.read_text(encoding="utf-8"), key)
    return RecipeError(
        asked=error.asked,
        found=f"{error.found} ({path.name}, line {line})",
        fix=error.fix,
        details={**error.details, "file": str(path), "line": line, "key": ".".join(key)},
    )
