"""What arrays beside the inputs say of samples: where sequences begin, and how much of a sample is no padding."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edgeport.calibration.data.digests import DigestedSet
from edgeport.contracts import Array, Sample, SampleSet, TensorSpec
from edgeport.errors import SamplesError

__all__ = ["SequenceLayout", "SequenceSamples", "axis_parts"]


@dataclass(frozen=True, kw_only=True)
class SequenceLayout:
    """How samples are to be read.

    Attributes:
        sequence: Key of an array that changes where a sequence begins, or the number of samples in each; empty where
            samples are no steps.
        lengths: Name of a free axis to the key of an integer array [N] with its size in each sample.
        inputs: Whose shapes name these axes.

    """

    sequence: str | int = ""
    lengths: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Nothing is to be done."""
        return self.sequence == "" and not self.lengths


def axis_parts(label: str) -> tuple[int, str]:
    """Factor and name of an axis: 32 and "height" of "32*height"."""
    factor, _, root = label.rpartition("*")
    return int(factor) if factor.isdigit() else 1, root


class SequenceSamples(DigestedSet):
    """A set whose samples are cut to their lengths, and know at which of them a sequence begins.

    Args:
        samples: The set; the arrays that the arrangement names are among its feeds.
        arrangement: How.

    """

    def __init__(self, samples: SampleSet, arrangement: SequenceLayout) -> None:
        self._samples = samples
        self._how = arrangement

    def __iter__(self) -> Iterator[Sample]:
        keys = set(self._how.lengths.values())
        if isinstance(self._how.sequence, str) and self._how.sequence:
            keys.add(self._how.sequence)
        done, last = 0, None
        for batch in self._samples:
            first: Array | None = None
            if isinstance(self._how.sequence, int):
                first = np.arange(done, done + len(batch)) % self._how.sequence == 0
            elif self._how.sequence:
                names = self._taken(batch, self._how.sequence)
                first = np.array([last is None or names[0] != last, *(names[1:] != names[:-1])], bool)
                last = names[-1]
            plain = {name: array for name, array in batch.feeds.items() if name not in keys}
            yield from self._cut(batch, Sample(feeds=plain, target=batch.target, first=first))
            done += len(batch)

    def __len__(self) -> int:
        return len(self._samples)

    def _taken(self, batch: Sample, key: str) -> Array:
        if key not in batch.feeds:
            near = difflib.get_close_matches(key, batch.feeds, n=1)
            raise SamplesError(
                asked=f"read {key!r} beside the inputs",
                found=f"samples with the arrays {', '.join(map(repr, batch.feeds))}",
                fix=f"did you mean {near[0]!r}?"
                if near
                else "give it with every sample, or correct the recipe's [data]",
                details={"problem": "name", "input": key},
            )
        return np.asarray(batch.feeds[key]).reshape(len(batch), -1)[:, 0]

    def _cut(self, given: Sample, sample: Sample) -> Iterator[Sample]:
        if not self._how.lengths:
            yield sample
            return
        lengths = {axis: self._lengths(given, axis, key) for axis, key in self._how.lengths.items()}
        every = np.stack(list(lengths.values()), axis=1)
        start = 0
        while start < len(sample):
            stop = start + 1
            while stop < len(sample) and np.array_equal(every[stop], every[start]):
                stop += 1
            yield self._trimmed(sample, slice(start, stop), {axis: int(each[start]) for axis, each in lengths.items()})
            start = stop

    def _lengths(self, given: Sample, axis: str, key: str) -> Array:
        lengths = self._taken(given, key)
        if lengths.dtype.kind not in "iu" or (lengths < 1).any():
            raise SamplesError(
                asked=f"cut samples to their {axis} ({key!r})",
                found=f"{lengths.dtype} from {lengths.min()} on",
                fix="give integers of 1 or more",
                details={"problem": "lengths", "input": key},
            )
        return lengths

    def _trimmed(self, sample: Sample, rows: slice, sizes: Mapping[str, int]) -> Sample:
        feeds, target = {}, None if sample.target is None else sample.target[rows]
        specs = {spec.name: spec for spec in self._how.inputs}
        for name, whole in sample.feeds.items():
            array = whole[rows]
            for index, label in (specs[name].dynamic_axes if name in specs else {}).items():
                factor, root = axis_parts(label)
                if root not in sizes or index >= array.ndim:
                    continue
                wanted, padded = factor * sizes[root], array.shape[index]
                if wanted > padded:
                    raise SamplesError(
                        asked=f"cut {name!r} to {root} {sizes[root]}",
                        found=f"shape {list(whole.shape)}",
                        fix="let the lengths be at most what the padded array holds",
                        details={"problem": "lengths", "input": name},
                    )
                array = np.take(array, np.arange(wanted), axis=index)
                # Labels of each step are padded as the steps are.
                if target is not None and target.ndim > index and target.shape[index] == padded:
                    target = np.take(target, np.arange(wanted), axis=index)
            feeds[name] = array
        first = None if sample.first is None else sample.first[rows]
        return replace(sample, feeds=feeds, target=target, first=first)
