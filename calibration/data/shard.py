"""Every n-th batch of a set: what one of n processes takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from edgeport.calibration.data.digests import SampleSetWrapper
from edgeport.contracts import Sample, SampleSet
from edgeport.errors import SamplesError

__all__ = ["Shard", "shard_of"]


def shard_of(samples: SampleSet, index: int, parts: int) -> Shard:
    """Batches `index`, `index + parts`, ...: the parts are disjoint, and together they are the set.

    Whole batches are dealt out, so a model sees the same ones whatever the number of parts.

    Raises:
        SamplesError: There is no such part.

    """
    if not 0 <= index < parts:
        raise SamplesError(
            asked=f"take part {index} of {parts}",
            found="a part that does not exist",
            fix="give a number of parts of 1 or more, and an index below it",
            details={"problem": "part"},
        )
    return Shard(samples, index, parts)


class Shard(SampleSetWrapper):
    """Some batches of a set; made by `shard_of`. Its fingerprint and digests are the whole set's: parts are merged."""

    def __init__(self, samples: SampleSet, index: int, parts: int) -> None:
        super().__init__(samples)
        self._index = index
        self._parts = parts
        self._count: int | None = None

    @property
    def whole(self) -> SampleSet:
        """The set that it is a part of."""
        return self._samples

    def __iter__(self) -> Iterator[Sample]:
        return islice(iter(self._samples), self._index, None, self._parts)

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(len(sample) for sample in self)
        return self._count
