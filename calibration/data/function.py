"""Samples from a function of the user's."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.calibration.data.array_roles import ArrayRole, sole
from edgeport.calibration.data.dataset import is_dataset, rows_of_dataset
from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.data.rebatch import batched, check_batch_size
from edgeport.contracts import Sample
from edgeport.errors import ContractError, SamplesError
from edgeport.user_functions import user_function

__all__ = ["FunctionSamples"]


class FunctionSamples(DigestedSet):
    """Batches from a function that is called anew for each walk.

    The function takes no arguments and yields feeds (arrays [N, ...] by input name) or `(feeds, target)`, or returns a
    torch Dataset, whose items are single samples. It must give the same samples each time: seed what is random.

    Args:
        function: "pkg.mod:function".
        search_path: Folder that is on the import path while the module is imported.
        wants: What arrays are for, as far as it is known; an item of a Dataset that has no name is the only one.
        target: Key of the label in items of a Dataset that are dicts.
        batch_size: Samples of a Dataset in a batch.

    Raises:
        SamplesError: It does not import, is no function, or yields something else.

    """

    def __init__(
        self,
        function: str,
        *,
        search_path: Path | None = None,
        wants: Mapping[str, ArrayRole] | None = None,
        target: str = "",
        batch_size: int = 32,
    ) -> None:
        self._name = function
        self._wants = dict(wants or {})
        self._target = target
        self._batch_size = check_batch_size(batch_size)
        self._function = _load(function, search_path)

    def __iter__(self) -> Iterator[Sample]:
        count = 0
        for sample in self._batches():
            count += len(sample)
            yield sample
        if "_walk" in vars(self) and count != self._walk.count:
            raise SamplesError(
                asked=f"walk the samples of {self._name} again",
                found=f"{count} samples, and {self._walk.count} the time before",
                fix="make the function start anew, and give the same samples, each time it is called",
                details={"problem": "not-repeatable"},
            )

    def __len__(self) -> int:
        return self._walk.count

    def _batches(self) -> Iterator[Sample]:
        for batch in self._given():
            if isinstance(batch, Sample):  # of a Dataset
                yield batch
                continue
            feeds, target = batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)
            if not isinstance(feeds, Mapping):
                raise self._wrong(f"a batch of type {type(feeds).__name__}")
            try:
                yield Sample(
                    # Copies: it may fill the same array again, while a batch waits for others.
                    feeds={str(name): np.asarray(array).copy() for name, array in feeds.items()},
                    target=None if target is None else np.asarray(target).copy(),
                )
            except ContractError as error:
                raise self._wrong(f"a batch with {error.found}") from error

    def _given(self) -> Iterator[Any]:
        """What the function gives; whatever it raises is about the samples."""
        try:
            batches = self._function()
            if is_dataset(batches):
                rows = rows_of_dataset(batches, lambda: sole(self._wants, self._name).name, self._target)
                yield from batched(rows, self._batch_size)
                return
            if isinstance(batches, Mapping) or not isinstance(batches, Iterable):
                raise self._wrong(f"{type(batches).__name__} as its result")
            yield from batches
        except SamplesError:
            raise
        except Exception as error:
            raise SamplesError(
                asked=f"take samples from {self._name}",
                found=f"that it raised {type(error).__name__}: {error}{_line_of(error)}",
                fix="correct that; the function must run in plain Python first",
                details={"problem": "function"},
            ) from error

    def _wrong(self, found: str) -> SamplesError:
        return SamplesError(
            asked=f"take samples from {self._name}",
            found=found,
            fix="yield dicts of arrays by input name, axis 0 the samples, or tuples of that and the targets; or return "
            "a torch Dataset",
            details={"problem": "function"},
        )


def _load(function: str, search_path: Path | None) -> Callable[[], Any]:
    try:
        found = user_function(function, search_path)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise SamplesError(
            asked=f"take samples from {function!r}",
            found=f"{type(error).__name__}: {error}",
            fix="write pkg.mod:function, and see that the module imports by itself",
            details={"problem": "function"},
        ) from error
    if not callable(found):
        raise SamplesError(
            asked=f"take samples from {function!r}",
            found=f"a {type(found).__name__}",
            fix="name a function that yields batches",
            details={"problem": "function"},
        )
    return found


def _line_of(error: Exception) -> str:
    """Where in the user's code it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
