"""The user's own preprocessing: a tokenizer, a spectrogram."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import Array
from edgeport.errors import SamplesError
from edgeport.user_functions import load_function

__all__ = ["RawFunction"]

_FIXES = (
    "name a module beside the recipe, or installed, and a function in it",
    "name a function that takes raw items and returns arrays",
)


class RawFunction:
    """A function from raw items to one array, or to arrays by input name.

    Args:
        function: `pkg.mod:fn`.
        names: Of the inputs that declare it; where it returns one array, that is the first one's.
        search_path: Folder that is on the import path while the module is imported.

    Raises:
        SamplesError: It does not import, or is no function.

    """

    def __init__(self, function: str, names: tuple[str, ...], search_path: Path | None = None) -> None:
        self._spelled = function
        self._names = names
        self._function = load_function(function, search_path, refuse=self._unusable, fixes=_FIXES)

    @property
    def name(self) -> str:
        """The first of the inputs that declare it."""
        return self._names[0]

    def __call__(self, raw: Array) -> dict[str, Array]:
        """Arrays [N, ...] by input name.

        Raises:
            SamplesError: The function raises, or returns something else.

        """
        try:
            returned = self._function(raw)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
            raise self._wrong(
                f"that it raised {type(error).__name__}: {error}{where}",
                "correct that; it is called with the raw items of one batch",
            ) from error
        arrays = returned if isinstance(returned, Mapping) else dict.fromkeys(self._names[:1], returned)
        missing = [name for name in self._names if name not in arrays]
        if missing:
            raise self._wrong(
                f"nothing for {', '.join(map(repr, missing))} in what it returned ({', '.join(map(repr, arrays))})",
                "return a mapping with an array for each input that names the function",
            )
        found = {str(name): self._array(str(name), value) for name, value in arrays.items()}
        wrong = {name: array.shape for name, array in found.items() if not array.ndim or len(array) != len(raw)}
        if wrong:
            name, shape = next(iter(wrong.items()))
            raise self._wrong(f"shape {list(shape)} for {name!r} from {len(raw)} items", "return one row per item")
        return found

    def _unusable(self, found: str, fix: str) -> SamplesError:
        asked = f"preprocess raw samples with {self._spelled}"
        return SamplesError(asked=asked, found=found, fix=fix, details={"problem": "preprocess"})

    def _array(self, name: str, value: Any) -> Array:
        try:
            array: Array = np.asarray(value)
        except ValueError as error:
            raise self._wrong(f"{error} for {name!r}", "pad or cut the items of a batch to one length") from error
        if array.dtype.hasobject:
            raise self._wrong(f"Python objects for {name!r}", "return arrays of numbers")
        return array

    def _wrong(self, found: str, fix: str) -> SamplesError:
        return SamplesError(
            asked=f"preprocess raw samples with {self._spelled}",
            found=found,
            fix=fix,
            details={"problem": "preprocess", "input": self.name},
        )
