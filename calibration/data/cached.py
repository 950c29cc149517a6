"""A set that is costly to walk, walked once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeport.calibration.data.digests import DigestedSet
from edgeport.contracts import Sample, SampleSet
from edgeport.npz import save_npz

__all__ = ["CachedSamples"]

_FEED = "feed/"


class CachedSamples(DigestedSet):
    """The batches of another set as that gave them, in a file each; every walk over this one reads these.

    Args:
        samples: Walked once, now; no more than one batch of it is in memory.
        folder: Gets the files; whoever gave it removes it.

    """

    def __init__(self, samples: SampleSet, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._files: list[Path] = []
        self._count = 0
        for batch in samples:
            file = folder / f"{len(self._files)}.npz"
            arrays = {f"{_FEED}{name}": np.asarray(array) for name, array in batch.feeds.items()}
            also = {"target": batch.target, "first": batch.first}
            save_npz(file, {**arrays, **{name: array for name, array in also.items() if array is not None}})
            self._files.append(file)
            self._count += len(batch)

    def __iter__(self) -> Iterator[Sample]:
        for path in self._files:
            with np.load(path, allow_pickle=False) as file:
                feeds = {name.removeprefix(_FEED): file[name] for name in file.files if name.startswith(_FEED)}
                also = {name: file[name] for name in ("target", "first") if name in file.files}
            yield Sample(feeds=feeds, **also)

    def __len__(self) -> int:
        return self._count
