"""The folder that EDGEPORT_ZOO names: trained models and data that benchmarks need and the repository has not."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeport.contracts import Array

ROOT = Path(__file__).parents[2]
"""Of the repository."""


def zoo(name: str) -> Path:
    """A file of it."""
    return Path(os.environ["EDGEPORT_ZOO"], name)


def missing(files: Sequence[str] = (), modules: Sequence[str] = ()) -> list[str]:
    """Files that are not there (all without the folder), and modules that are not installed."""
    folder = os.environ.get("EDGEPORT_ZOO")
    absent = [name for name in files if folder is None or not Path(folder, name).is_file()]
    return absent + [name for name in modules if importlib.util.find_spec(name) is None]


def pictures(packed: Any, indices: Iterable[int]) -> Iterator[Array]:
    """Photographs uint8 [H, W, 3] out of a file of JPEGs."""
    from PIL import Image

    data, offsets = packed["data"], packed["offsets"]
    for index in indices:
        jpeg = data[offsets[index] : offsets[index + 1]].tobytes()
        yield np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def example(folder: str, module: str) -> ModuleType:
    """A module of an example, as its user imports it."""
    place = str(ROOT / "examples" / folder)
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module(module)


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported.

    Raises:
        ModuleNotFoundError: It is not installed.

    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name)
    return Path(spec.submodule_search_locations[0])
