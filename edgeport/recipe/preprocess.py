"""`[inputs.NAME.preprocess]`: from the section to the contract, and back to text."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from edgeport.contracts import Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.errors import ContractError
from edgeport.preprocessing import value_range
from edgeport.recipe.errors import KeyPath, RecipeText

if TYPE_CHECKING:
    from edgeport.recipe.sections import PreprocessSection

__all__ = ["preprocessing_of", "preprocessing_rows", "with_preprocessing"]

_OF_FUNCTIONS = ("function", "ship", "raw")
_FRACTION = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_FOLDED = "NHWC"
"""What cameras and decoders give, and so what `fold = true` means."""


def with_preprocessing(recipe: RecipeText, spec: TensorSpec, section: PreprocessSection | None) -> TensorSpec:
    """The input with its preprocessing, from which its range follows where none is declared.

    Raises:
        RecipeError: What can't be, or does not fit the input's shape.

    """
    if section is None:
        return spec
    key = ("inputs", spec.name, "preprocess")
    try:
        declared = preprocessing_of(recipe, key, section)
        spec = replace(spec, preprocessing=declared)
    except ContractError as error:
        raise recipe.error(key, error.found, error.fix) from error
    if spec.value_range is None and isinstance(declared, Preprocessing):
        return replace(spec, value_range=value_range(declared))
    return spec


def preprocessing_of(
    recipe: RecipeText, key: KeyPath, section: PreprocessSection
) -> Preprocessing | PreprocessingFunction:
    """The contract.

    Args:
        recipe: For the errors.
        key: Of the section.
        section: As read.

    Raises:
        RecipeError: Keys that contradict each other; `scale` is no number.
        ContractError: Values that can't be.

    """
    given = section.model_fields_set
    if section.function is not None:
        for name in sorted(given):
            if name not in _OF_FUNCTIONS:
                raise recipe.error(
                    (*key, name), "does not go with function, which does all of it", "remove one of them"
                )
        return PreprocessingFunction(function=section.function, raw=section.raw, ship=section.ship)
    if "ship" in given:
        raise recipe.error((*key, "ship"), "is about the module of a function, and there is none", "remove it")
    if not given:
        raise recipe.error(key, "is empty", 'say what is done, such as scale = "1/255", or remove the section')
    return Preprocessing(
        resize=_pair(section.resize),
        crop=_square(section.crop),
        scale=_scale(recipe, key, section.scale),
        mean=_numbers(section.mean),
        std=_numbers(section.std),
        layout=section.layout,
        color=section.color,
        interpolation=section.interpolation,
        fold=section.fold if isinstance(section.fold, str) else _FOLDED if section.fold else "",
        raw=section.raw,
    )


def preprocessing_rows(declared: Preprocessing | PreprocessingFunction) -> list[tuple[str, Any, bool]]:
    """Key, value, and whether it is the default; what has no spelling in TOML (no resize) is left out."""
    if isinstance(declared, PreprocessingFunction):
        return [
            ("function", declared.function, False),
            ("raw", declared.raw, not declared.raw),
            ("ship", declared.ship, not declared.ship),
        ]
    default = Preprocessing()
    values: dict[str, Any] = {field.name: getattr(declared, field.name) for field in fields(Preprocessing)}
    rows = [
        (name, value, value == getattr(default, name))
        for name, value in values.items()
        if value is not None and name not in ("scale", "fold")
    ]
    rows.append(("scale", _spelled_scale(declared.scale), declared.scale == 1.0))
    return [*rows, ("fold", declared.fold or False, not declared.fold)]


def _pair(size: int | list[int] | None) -> int | tuple[int, int] | None:
    return (size[0], size[1]) if isinstance(size, list) else size


def _square(size: int | list[int] | None) -> tuple[int, int] | None:
    return None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])


def _numbers(values: float | list[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values) if isinstance(values, list) else (float(values),)


def _scale(recipe: RecipeText, key: KeyPath, scale: float | str) -> float:
    if not isinstance(scale, str):
        return float(scale)
    match = _FRACTION.fullmatch(scale.strip())
    if match is None or float(match[2]) == 0:
        raise recipe.wrong_value((*key, "scale"), "is neither a number nor a fraction", 'give scale = "1/255"')
    return float(match[1]) / float(match[2])


def _spelled_scale(scale: float) -> float | str:
    whole = round(1 / scale)
    return f"1/{whole}" if whole > 1 and 1 / whole == scale else scale
