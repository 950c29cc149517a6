"""Applies what the inputs of a model declare to raw samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import Array, Arrays, Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.errors import SamplesError
from edgeport.preprocessing.function import RawFunction
from edgeport.preprocessing.images import prepare_images

__all__ = ["Preprocessor", "apply"]


def apply(preprocessing: Preprocessing, raw: Array | Sequence[Array], *, dtype: str = "float32") -> Array:
    """Raw images as the array that the model takes.

    Args:
        preprocessing: What is done; `fold` is not looked at: see `outside_of` and `inside_of`.
        raw: uint8 or float [N, H, W, C] or [N, H, W], or N images [H, W, C] or [H, W] of any sizes.
        dtype: Of the result.

    Returns:
        [N, C, H, W], or [N, H, W, C] where the layout says so.

    Raises:
        SamplesError: An image can't be prepared, or they come out in different sizes.

    """
    try:
        prepared: Array = prepare_images(raw, asdict(preprocessing), dtype)
    except ValueError as error:
        raise SamplesError(
            asked="preprocess raw images",
            found=str(error),
            fix="correct the images or [inputs.NAME.preprocess]; samples that went through it already are fed as they "
            "are with preprocessed = true",
            details={"problem": "preprocess"},
        ) from error
    return prepared


class Preprocessor:
    """Makes a model's feeds from raw ones; inputs that declare nothing go through as they are.

    Args:
        specs: The model's inputs.
        search_path: Folder that is on the import path while functions are imported.

    Raises:
        SamplesError: A function does not import.

    """

    def __init__(self, specs: Sequence[TensorSpec], search_path: Path | None = None) -> None:
        self._images: dict[str, tuple[TensorSpec, Preprocessing]] = {}
        names: dict[tuple[str, str], tuple[str, ...]] = {}
        for spec in specs:
            declared = spec.preprocessing
            if isinstance(declared, PreprocessingFunction):
                # One call fills all the inputs that name the same function and the same raw items.
                key = (declared.function, declared.raw or spec.name)
                names[key] = (*names.get(key, ()), spec.name)
            elif declared is not None:
                self._images[spec.name] = (spec, declared)
        self._functions = [(raw, RawFunction(function, those, search_path)) for (function, raw), those in names.items()]

    def __call__(self, feeds: Arrays) -> dict[str, Array]:
        """The feeds of one batch.

        Raises:
            SamplesError: The raw array is missing, or can't be prepared; a function raises, or gives something else.

        """
        used: set[str] = set()
        made: dict[str, Array] = {}
        for raw, function in self._functions:
            made |= function(_raw(feeds, raw, function.name))
            used.add(raw)
        for name, (spec, declared) in self._images.items():
            raw = declared.raw or name
            made[name] = _prepared(spec, declared, _raw(feeds, raw, name))
            used.add(raw)
        return {name: array for name, array in feeds.items() if name not in used} | made


def _prepared(spec: TensorSpec, preprocessing: Preprocessing, raw: Array) -> Array:
    try:
        return apply(preprocessing, raw, dtype=spec.dtype)
    except SamplesError as error:
        already = _looks_prepared(spec, raw)
        raise SamplesError(
            asked=f"preprocess raw images for input {spec.name!r}",
            found=error.found + (f"; the samples have the input's own shape {list(raw.shape)}" if already else ""),
            fix="say preprocessed = true in [data], where the samples went through it already"
            if already
            else error.fix,
            details={**error.details, "input": spec.name},
        ) from error


def _looks_prepared(spec: TensorSpec, raw: Any) -> bool:
    if not isinstance(raw, np.ndarray) or raw.ndim != len(spec.shape):
        return False
    return all(isinstance(want, str) or want == got for want, got in zip(spec.shape[1:], raw.shape[1:], strict=True))


def _raw(feeds: Mapping[str, Array], raw: str, name: str) -> Array:
    if raw in feeds:
        return feeds[raw]
    raise SamplesError(
        asked=f"preprocess raw samples for input {name!r}",
        found=f"no array {raw!r} among {', '.join(map(repr, feeds))}",
        fix=f'name the array that holds them: raw = "{next(iter(feeds), "images")}" in [inputs.{name}.preprocess]',
        details={"problem": "name", "input": name},
    )
