"""The node tests that the onnx package ships for backends, as files: one input is fed, the others are constants.

So the weights of a convolution are where a model has them. A test whose inputs are no tensors keeps them as inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgeport.contracts import Array
from edgeport.npz import save_npz


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
    return [_case(path) for path in written(folder, _write)]


def written(folder: Path, write: Callable[[Any, Path], None]) -> list[Path]:
    """A folder per test, sorted; written once."""
    from onnx.backend.test.case.node import collect_testcases

    if not (folder / "written").exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tests divide by zero on purpose
            for test in collect_testcases(None):
                (folder / test.name).mkdir(parents=True, exist_ok=True)
                write(test, folder / test.name)
        (folder / "written").touch()
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _case(path: Path) -> Case:
    feeds = path / "feeds.npz"
    return Case(name=path.name, model=path / "model.onnx", feeds=feeds if feeds.exists() else None)


def arrays_of(values: Iterable[Any], ports: Iterable[Any]) -> dict[str, Any]:
    """What a test feeds or expects, by name; arrays where they are tensors."""
    return {
        port.name: numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for port, value in zip(ports, values, strict=False)
    }


def _write(test: Any, folder: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    given = arrays_of(test.data_sets[0][0], model.graph.input)
    fed = _fed(given)
    for name, array in given.items():
        if name != fed and isinstance(array, np.ndarray | np.generic):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
            model.graph.input.remove(next(value for value in model.graph.input if value.name == name))
    onnx.save(model, folder / "model.onnx")
    feeds = {value.name: given.get(value.name) for value in model.graph.input}
    if all(fits(array, registered=True) for array in feeds.values()):
        save_npz(folder / "feeds.npz", {name: plain(array) for name, array in feeds.items()})


def _fed(given: dict[str, Any]) -> str:
    """The first input of floats that has an axis, else the first with one, else the first; none that is empty."""
    arrays = {name: np.asarray(array) for name, array in given.items() if isinstance(array, np.ndarray | np.generic)}
    full = {name: array for name, array in arrays.items() if array.ndim and array.size}
    floats = [name for name, array in full.items() if array.dtype == np.float32]
    return next(iter([*floats, *full, *given]), "")


def fits(array: Any, *, registered: bool = False) -> bool:
    """Whether a `.npz` can hold it; of the types that ml_dtypes registers, none unless it is asked for."""
    if not isinstance(array, np.ndarray | np.generic) or (array.dtype.isbuiltin != 1 and not registered):
        return False
    return array.dtype.kind in "fiubUOS" or array.dtype.name == "bfloat16"


def plain(array: Any) -> Array:
    """As a `.npz` holds it: bfloat16 as float32, objects as text."""
    held: Array = np.asarray(array)
    if held.dtype.name == "bfloat16":
        return held.astype(np.float32)
    return held.astype(np.str_) if held.dtype.kind in "OS" else held
