"""The same samples in other batches, and random parts of a set; streaming, whatever the set is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from edgeport.calibration.data.digests import DigestedSet, SampleSetWrapper
from edgeport.contracts import Sample, SampleSet
from edgeport.errors import SamplesError

__all__ = ["Rebatched", "Subset", "batched", "check_batch_size", "rebatch", "rows_of", "subset"]


def rebatch(samples: SampleSet, batch_size: int, *, fill_up: bool = False) -> Rebatched:
    """The same samples, `batch_size` at a time.

    Samples of different shapes never share a batch, so a batch may be smaller.

    Args:
        samples: The set.
        batch_size: Samples in a batch.
        fill_up: Bring a smaller batch to `batch_size` by its own samples again (a model with a fixed batch takes no
            other). They are no new samples: length, fingerprint and digests stay those of the set.

    """
    return Rebatched(samples, check_batch_size(batch_size), fill_up=fill_up)


def subset(samples: SampleSet, n: int, seed: int = 0) -> Subset:
    """`n` samples drawn without replacement by `seed`, in their old order, in batches as large as the set's first.

    Raises:
        SamplesError: There are fewer than `n`, or `n` is not positive.

    """
    available = len(samples)
    if not 1 <= n <= available:
        raise SamplesError(
            asked=f"draw {n} samples",
            found=f"a set of {available}",
            fix=f"ask for 1 to {available}" if available else "give a set that is not empty",
            details={"problem": "subset"},
        )
    chosen = np.random.default_rng(seed).choice(available, size=n, replace=False)
    return Subset(samples, frozenset(chosen.tolist()), batch_size=len(next(iter(samples))))


class Rebatched(SampleSetWrapper):
    """A sample set in batches of another size, which do not show in its fingerprint; made by `rebatch`."""

    def __init__(self, samples: SampleSet, batch_size: int, *, fill_up: bool = False) -> None:
        super().__init__(samples)
        self._batch_size = batch_size
        self._fill_up = fill_up

    def __iter__(self) -> Iterator[Sample]:
        grouped = batched((row for sample in self._samples for row in rows_of(sample)), self._batch_size)
        return (_filled(batch, self._batch_size) for batch in grouped) if self._fill_up else grouped


class Subset(DigestedSet):
    """Some samples of a set; made by `subset`."""

    def __init__(self, samples: SampleSet, indices: frozenset[int], batch_size: int) -> None:
        self._samples = samples
        self._indices = indices
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[Sample]:
        return batched(self._chosen(), self._batch_size)

    def __len__(self) -> int:
        return len(self._indices)

    def _chosen(self) -> Iterator[Sample]:
        start = 0
        for sample in self._samples:
            yield from (row for index, row in enumerate(rows_of(sample), start) if index in self._indices)
            start += len(sample)


def rows_of(sample: Sample) -> Iterator[Sample]:
    """Each sample of a batch as a batch of one (views, not copies)."""
    return (_row(sample, row) for row in range(len(sample)))


def check_batch_size(batch_size: int) -> int:
    """The batch size, if it is one.

    Raises:
        SamplesError: It is not positive.

    """
    if batch_size < 1:
        raise SamplesError(
            asked=f"hand out batches of {batch_size}",
            found="a size below 1",
            fix="give a batch size of 1 or more",
            details={"problem": "batch-size"},
        )
    return batch_size


def _row(sample: Sample, row: int) -> Sample:
    rows = slice(row, row + 1)
    return Sample(
        feeds={name: array[rows] for name, array in sample.feeds.items()},
        target=None if sample.target is None else sample.target[rows],
        first=None if sample.first is None else sample.first[rows],
    )


def batched(rows: Iterable[Sample], size: int) -> Iterator[Sample]:
    """Samples one by one in batches of up to `size`; one of another shape than the one before starts a new batch."""
    waiting: list[Sample] = []
    for row in rows:
        if waiting and not (len(waiting) < size and _alike(waiting[0], row)):
            yield _joined(waiting)
            waiting = []
        waiting.append(row)
    if waiting:
        yield _joined(waiting)


def _filled(sample: Sample, size: int) -> Sample:
    if len(sample) == size:
        return sample
    rows = np.arange(size) % len(sample)
    return Sample(
        feeds={name: array[rows] for name, array in sample.feeds.items()},
        target=None if sample.target is None else sample.target[rows],
        first=None if sample.first is None else sample.first[rows],
    )


def _alike(left: Sample, right: Sample) -> bool:
    """They can stand in one batch."""
    return _shapes(left) == _shapes(right)


def _shapes(sample: Sample) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...] | None]:
    feeds = {name: array.shape[1:] for name, array in sample.feeds.items()}
    return feeds, None if sample.target is None else sample.target.shape[1:]


def _joined(rows: list[Sample]) -> Sample:
    if len(rows) == 1:
        return rows[0]
    targets = [row.target for row in rows if row.target is not None]
    first = [row.first for row in rows if row.first is not None]
    return Sample(
        feeds={name: np.concatenate([row.feeds[name] for row in rows]) for name in rows[0].feeds},
        target=np.concatenate(targets) if targets else None,
        first=np.concatenate(first) if first else None,
    )
