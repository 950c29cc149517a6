"""Digests of samples: they say whether two sets are equal, and whether they overlap."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeport.contracts import Array, Sample

__all__ = ["Walk", "Walked", "sample_digests", "walk"]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What one walk over a sample set found.

    Attributes:
        count: Number of samples.
        fingerprint: SHA-256, hexadecimal, over feeds and targets in their order, however they are batched.
        digests: One per sample's feeds; one per sequence, where samples are its steps (silence is in many of them).

    """

    count: int
    fingerprint: str
    digests: frozenset[str]


def walk(samples: Iterable[Sample]) -> Walk:
    """Walks once; memory grows by one digest per sample."""
    whole = hashlib.sha256()
    digests: set[str] = set()
    steps: list[str] = []
    count = 0
    for sample in samples:
        for row, digest in enumerate(sample_digests(sample)):
            whole.update(digest.encode())
            if sample.target is not None:
                whole.update(_array_bytes("", sample.target[row]))
            count += 1
            if sample.first is None:
                digests.add(digest)
                continue
            if sample.first[row]:
                whole.update(b"first")
                digests.update(_of_sequence(steps))
                steps = []
            steps.append(digest)
    digests.update(_of_sequence(steps))
    return Walk(count=count, fingerprint=whole.hexdigest(), digests=frozenset(digests))


def _of_sequence(steps: list[str]) -> set[str]:
    return {hashlib.sha256("".join(steps).encode()).hexdigest()} if steps else set()


class Walked(ABC):
    """A sample set whose fingerprint and digests come from one walk over it, when they are first asked for."""

    @cached_property
    def _walk(self) -> Walk:
        return walk(self)

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


def sample_digests(sample: Sample) -> Iterator[str]:
    """SHA-256, hexadecimal, of the feeds of each row of a batch: names, dtypes, shapes and bytes.

    Of text it is the text that counts, not the width of the array that holds it: that depends on the batch.
    """
    names = sorted(sample.feeds)
    for row in range(len(sample)):
        state = hashlib.sha256()
        for name in names:
            state.update(_array_bytes(name, sample.feeds[name][row]))
        yield state.hexdigest()


def _array_bytes(name: str, array: Array) -> bytes:
    array = np.asarray(array)
    is_text = array.dtype.kind in "US"
    data = repr(array.tolist()).encode() if is_text or array.dtype.hasobject else array.tobytes()
    dtype = array.dtype.kind if is_text else str(array.dtype)
    # Lengths are in the header, so no two different samples read the same.
    return f"{len(name)}:{name}:{dtype}:{array.shape}:{len(data)}:".encode() + data
