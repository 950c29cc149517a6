"""Samples from a `.npy` file, for models with one input; read a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.data.npz import read_header
from edgeport.calibration.data.rebatch import check_batch_size
from edgeport.contracts import Sample
from edgeport.errors import SamplesError

__all__ = ["NpySamples"]


class NpySamples(DigestedSet):
    """The array [N, ...] that `numpy.save` wrote. No more than one batch is in memory; nothing is unpickled.

    Args:
        path: The file.
        name: Of the input.
        batch_size: Samples in a batch.

    Raises:
        SamplesError: Not such a file, damaged, with Python objects, in column order, or without samples.

    """

    def __init__(self, path: Path | str, name: str, batch_size: int = 32) -> None:
        self._path = Path(path)
        self._name = name
        self._batch_size = check_batch_size(batch_size)
        try:
            with self._path.open("rb") as file:
                self._shape, fortran, self._dtype = read_header(file)
                self._start = file.tell()
                size = self._path.stat().st_size
        except OSError as error:
            raise self._wrong(str(error.strerror or error), "give a file that you may read") from error
        except ValueError as error:
            raise self._wrong(f"no .npy file ({error})", "write it with numpy.save") from error
        if self._dtype.hasobject:
            raise self._wrong("Python objects, whose unpickling can run any code", "store numbers only", "pickle")
        if fortran and len(self._shape) > 1:
            raise self._wrong("an array in column order", "store numpy.ascontiguousarray of it")
        if not self._shape or not self._shape[0]:
            raise self._wrong(f"shape {list(self._shape)}", "store one sample or more along axis 0", "empty")
        if size != self._start + self._dtype.itemsize * math.prod(self._shape):
            raise self._wrong("another size than its header says", "write the file again")

    def __iter__(self) -> Iterator[Sample]:
        row_bytes = self._dtype.itemsize * math.prod(self._shape[1:])
        with self._path.open("rb") as file:
            file.seek(self._start)
            for start in range(0, len(self), self._batch_size):
                rows = min(self._batch_size, len(self) - start)
                data = file.read(rows * row_bytes)
                if len(data) != rows * row_bytes:
                    raise self._wrong("that it ends early", "write the file again")
                yield Sample(feeds={self._name: np.frombuffer(data, self._dtype).reshape(rows, *self._shape[1:])})

    def __len__(self) -> int:
        return self._shape[0]

    def _wrong(self, found: str, fix: str, problem: str = "file") -> SamplesError:
        return SamplesError(
            asked=f"read samples from {self._path.name}", found=found, fix=fix, details={"problem": problem}
        )
