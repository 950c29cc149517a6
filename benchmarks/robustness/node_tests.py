"""The node tests that the onnx package ships for backends, as files: one input is fed, the others are constants.

So the weights of a convolution are where a model has them. A test whose inputs are no tensors keeps them as inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgeport.contracts import Array
from edgeport.npz import save_npz

__all__ = ["Case", "node_tests"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A float file and what it is fed.

    Attributes:
        name: Fit for a file.
        model: `.onnx`.
        feeds: `.npz` with what one call takes; None where a `.npz` can't hold it.
        part: "nodes" or "architectures".

    """

    name: str
    model: Path
    feeds: Path | None
    part: str = "nodes"


def node_tests(folder: Path) -> list[Case]:
    """Writes each test once, into a folder of its own; sorted by name."""
    listed = folder / "written"
    if not listed.exists():
        for test in _collected():
            _write(test, folder / test.name)
        listed.touch()
    return [_case(path) for path in sorted(folder.iterdir()) if path.is_dir()]


def _case(path: Path) -> Case:
    feeds = path / "feeds.npz"
    return Case(name=path.name, model=path / "model.onnx", feeds=feeds if feeds.exists() else None)


def _collected() -> Iterator[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests divide by zero on purpose
        yield from collect_testcases(None)


def _write(test: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    given = dict(zip((value.name for value in model.graph.input), test.data_sets[0][0], strict=False))
    given = {
        name: numpy_helper.to_array(array) if isinstance(array, onnx.TensorProto) else array
        for name, array in given.items()
    }
    fed = _fed(given)
    for name, array in given.items():
        if name != fed and isinstance(array, np.ndarray | np.generic):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
            model.graph.input.remove(next(value for value in model.graph.input if value.name == name))
    onnx.save(model, folder / "model.onnx")
    feeds = {value.name: given.get(value.name) for value in model.graph.input}
    if all(_fits(array) for array in feeds.values()):
        save_npz(folder / "feeds.npz", {name: _plain(array) for name, array in feeds.items()})


_KINDS = "fiubUOS"  # of dtypes that a `.npz` holds


def _fed(given: dict[str, Any]) -> str:
    """The first input of floats that has an axis, else the first with one, else the first; none that is empty."""
    arrays = {name: np.asarray(array) for name, array in given.items() if isinstance(array, np.ndarray | np.generic)}
    full = {name: array for name, array in arrays.items() if array.ndim and array.size}
    floats = [name for name, array in full.items() if array.dtype == np.float32]
    return next(iter([*floats, *full, *given]), "")


def _fits(array: Any) -> bool:
    """Whether a `.npz` can hold it; bfloat16 as float32."""
    if not isinstance(array, np.ndarray | np.generic):
        return False
    dtype = np.asarray(array).dtype
    return dtype.name == "bfloat16" or (bool(dtype.isbuiltin) and dtype.kind in _KINDS)


def _plain(array: Any) -> Array:
    plain: Array = np.asarray(array)
    if plain.dtype.name == "bfloat16":
        return plain.astype(np.float32)
    return plain.astype(np.str_) if plain.dtype.kind in "OS" else plain
