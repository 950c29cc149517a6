"""Samples that are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgeport.calibration.data.digests import DigestedSet
from edgeport.calibration.data.rebatch import check_batch_size
from edgeport.contracts import Array, Sample
from edgeport.errors import SamplesError

__all__ = ["ArraySamples"]


class ArraySamples(DigestedSet):
    """Arrays with the samples along axis 0, handed out in batches; the last one may be smaller.

    Args:
        feeds: Arrays [N, ...] by input name.
        target: Array [N, ...] that the metric compares with, or None.
        batch_size: Samples in a batch.

    Raises:
        SamplesError: No arrays, no samples, or arrays of different lengths.

    """

    def __init__(self, feeds: Mapping[str, Array], target: Array | None = None, batch_size: int = 32) -> None:
        self._feeds = {name: np.asarray(array) for name, array in feeds.items()}
        self._target = None if target is None else np.asarray(target)
        self._batch_size = check_batch_size(batch_size)
        named = self._feeds if self._target is None else {**self._feeds, "target": self._target}
        lengths = {name: len(array) if array.ndim else None for name, array in named.items()}
        if not self._feeds or len(set(lengths.values())) != 1 or None in lengths.values():
            raise SamplesError(
                asked="use arrays as samples",
                found=f"lengths {lengths}" if lengths else "no arrays",
                fix="give one array per input, and in each the same number of samples along axis 0",
                details={"problem": "lengths"},
            )
        if not len(self):
            raise SamplesError(
                asked="use arrays as samples",
                found="arrays of length 0",
                fix="give at least one sample, better 100 or more",
                details={"problem": "empty"},
            )

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), self._batch_size):
            rows = slice(start, start + self._batch_size)
            yield Sample(
                feeds={name: array[rows] for name, array in self._feeds.items()},
                target=None if self._target is None else self._target[rows],
            )

    def __len__(self) -> int:
        return len(next(iter(self._feeds.values())))
