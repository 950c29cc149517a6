"""Named arrays in a file whose bytes depend on nothing but them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeport.contracts import Array

__all__ = ["save_npz"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that zip knows


def save_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes an `.npz`. Unlike `numpy.savez` it takes every name ("file" too), in sorted order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(arrays[name], order="C"), allow_pickle=False)
