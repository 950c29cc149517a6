"""Items of a torch Dataset as samples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgeport.contracts import Array, Sample
from edgeport.errors import EdgeportError, SamplesError

__all__ = ["is_dataset", "rows_of_dataset"]

_ITEM = "let an item be a tensor or array, a dict of these by input name, or a pair of that and its label"


def is_dataset(thing: object) -> bool:
    """A `torch.utils.data.Dataset`; torch itself is not imported for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.utils.data.Dataset)


def rows_of_dataset(dataset: Any, only_input: Callable[[], str], target: str) -> Iterator[Sample]:
    """Each item as a batch of one: by index where the dataset has a length, else as it is iterated.

    Args:
        dataset: Gives items: x, (x, label), or dicts of x by input name, which may hold the label too.
        only_input: Name of the input that an x without a name is for; raises where that is not clear.
        target: Key of the label in dicts; empty where they hold none.

    Raises:
        SamplesError: An item can't be read, or is something else.

    """
    for index, item in _items(dataset):
        try:
            x, label = (item[0], item[1]) if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
            feeds = dict(x) if isinstance(x, Mapping) else {only_input(): x}
            if label is None and target:
                label = feeds.pop(target, None)
            yield Sample(
                feeds={str(name): _array(value)[None] for name, value in feeds.items()},
                target=None if label is None else _array(label)[None],
            )
        except EdgeportError:
            raise
        except (TypeError, ValueError) as error:
            raise _wrong(dataset, index, f"{type(item).__name__}: {error}", _ITEM) from error


def _items(dataset: Any) -> Iterator[tuple[int, Any]]:
    index = 0
    try:
        if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            for index in range(len(dataset)):
                yield index, dataset[index]
        else:
            for item in dataset:
                yield index, item
                index += 1
    except (MemoryError, EdgeportError):
        raise
    except Exception as error:  # the dataset's code may raise anything
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
        found = f"that it raised {type(error).__name__}: {error}{where}"
        raise _wrong(
            dataset, index, found, "correct that; the dataset must give all its items in plain Python"
        ) from error


def _array(value: Any) -> Array:
    torch = sys.modules["torch"]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, float):  # as torch makes a tensor of it
        return np.asarray(value, np.float32)
    array: Array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"a {type(value).__name__} in it, which is no array of numbers or text")
    return array


def _wrong(dataset: Any, index: int, found: str, fix: str) -> SamplesError:
    return SamplesError(
        asked=f"take item {index} of the dataset {type(dataset).__name__}",
        found=found,
        fix=fix,
        details={"problem": "dataset", "sample": index},
    )
