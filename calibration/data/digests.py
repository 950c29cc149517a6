"""Digests of samples: they say whether two sets are equal, and whether they overlap."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeport.contracts import Array, Sample, SampleSet

__all__ = ["DigestedSet", "SampleSetWrapper", "SetDigest", "SetDigester", "sample_digests", "walk"]


@dataclass(frozen=True, kw_only=True)
class SetDigest:
    """What one walk over a sample set found.

    Attributes:
        count: Number of samples.
        fingerprint: SHA-256, hexadecimal, over feeds and targets in their order, however they are batched.
        digests: One per sample's feeds; one per sequence, where samples are its steps (silence is in many of them).

    """

    count: int
    fingerprint: str
    digests: frozenset[str]


class SetDigester:
    """What a walk finds, batch by batch; memory grows by one digest per sample."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._digests: set[str] = set()
        self._steps: list[str] = []
        self._count = 0

    def add(self, sample: Sample) -> None:
        """The next batch."""
        for row, digest in enumerate(sample_digests(sample)):
            self._whole.update(digest.encode())
            if sample.target is not None:
                _update(self._whole, "", sample.target[row])
            self._count += 1
            if sample.first is None:
                self._digests.add(digest)
                continue
            if sample.first[row]:
                self._whole.update(b"first")
                self._digests.update(_of_sequence(self._steps))
                self._steps = []
            self._steps.append(digest)

    def found(self) -> SetDigest:
        """After the last batch."""
        digests = frozenset(self._digests | _of_sequence(self._steps))
        return SetDigest(count=self._count, fingerprint=self._whole.hexdigest(), digests=digests)


def walk(samples: Iterable[Sample]) -> SetDigest:
    """Walks once."""
    walking = SetDigester()
    for sample in samples:
        walking.add(sample)
    return walking.found()


def _of_sequence(steps: list[str]) -> set[str]:
    return {hashlib.sha256("".join(steps).encode()).hexdigest()} if steps else set()


class DigestedSet(ABC):
    """A sample set whose fingerprint and digests come from one walk over it, when they are first asked for."""

    @cached_property
    def _walk(self) -> SetDigest:
        return walk(self)

    def remember(self, found: SetDigest) -> None:
        """What somebody found who had to walk over the whole set; then no other walk is needed to know it."""
        self.__dict__.setdefault("_walk", found)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, over every sample."""
        return self._walk.fingerprint

    def digests(self) -> frozenset[str]:
        """One digest per sample's feeds."""
        return self._walk.digests

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]: ...

    @abstractmethod
    def __len__(self) -> int: ...


class SampleSetWrapper(ABC):
    """A sample set that stands for the one behind it, whose fingerprint and digests it has."""

    def __init__(self, samples: SampleSet) -> None:
        self._samples = samples

    @property
    def fingerprint(self) -> str:
        """That of the set behind it."""
        return self._samples.fingerprint

    def digests(self) -> frozenset[str]:
        """One digest per sample's feeds, of the set behind it."""
        return self._samples.digests()

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]: ...

    def __len__(self) -> int:
        return len(self._samples)


def sample_digests(sample: Sample) -> Iterator[str]:
    """SHA-256, hexadecimal, of the feeds of each row of a batch: names, dtypes, shapes and bytes.

    Of text it is the text that counts, not the width of the array that holds it: that depends on the batch.
    """
    names = sorted(sample.feeds)
    for row in range(len(sample)):
        state = hashlib.sha256()
        for name in names:
            _update(state, name, sample.feeds[name][row])
        yield state.hexdigest()


def _update(state: hashlib._Hash, name: str, array: Array) -> None:
    array = np.asarray(array)
    is_text = array.dtype.kind in "US"
    data: bytes | memoryview
    if is_text or array.dtype.hasobject:
        data = repr(array.tolist()).encode()
    else:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data  # not copied: a batch may be large
    dtype = array.dtype.kind if is_text else str(array.dtype)
    # Lengths are in the header, so no two different samples read the same.
    state.update(f"{len(name)}:{name}:{dtype}:{array.shape}:{len(data)}:".encode())
    state.update(data)
