"""Raw samples as a model takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from edgeport.calibration.data.digests import DigestedSet
from edgeport.contracts import Array, Arrays, Sample, SampleSet

__all__ = ["Preprocessed"]


class Preprocessed(DigestedSet):
    """A set whose batches go through a function on their way out; no more than one batch is in memory.

    Fingerprint and digests are those of what comes out.

    Args:
        samples: The raw set.
        prepare: Feeds of a raw batch to feeds of as many samples.

    """

    def __init__(self, samples: SampleSet, prepare: Callable[[Arrays], dict[str, Array]]) -> None:
        self._samples = samples
        self._prepare = prepare

    def __iter__(self) -> Iterator[Sample]:
        for batch in self._samples:
            yield replace(batch, feeds=self._prepare(batch.feeds))

    def __len__(self) -> int:
        return len(self._samples)
