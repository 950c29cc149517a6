"""Samples [N, ...] in arrays by name, also where they differ in shape, and outputs gathered sample by sample.

Samples of different shapes lie in one array, padded with zeros; an int64 array of its name and "#shape" has the shape
of each. A state lies beside them as it begins, without an axis that counts. So each file is plain arrays, and a file of
samples of one shape holds these alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeport.contracts import Array, Arrays, RunModel
from edgeport.errors import SamplesError

__all__ = ["SHAPE", "OutputAccumulator", "RaggedBatch", "resized", "run_rows"]

SHAPE = "#shape"
"""Behind the name of an array whose samples differ in shape."""


@dataclass(frozen=True, kw_only=True)
class RaggedBatch:
    """Samples, as a file has them.

    Attributes:
        values: Arrays [N, ...] by name.
        shapes: int64 [N, axes] by name, of those whose samples differ in shape.
        state: What each state begins with, by input.

    """

    values: Arrays
    shapes: Arrays = field(default_factory=dict)
    state: Arrays = field(default_factory=dict)

    @classmethod
    def of(cls, arrays: Arrays, state: Sequence[str] = ()) -> RaggedBatch:
        """The arrays of a file; those of the inputs in `state` have no axis that counts."""
        shapes = {name.removesuffix(SHAPE): array for name, array in arrays.items() if name.endswith(SHAPE)}
        values = {name: array for name, array in arrays.items() if not name.endswith(SHAPE) and name not in state}
        return cls(values=values, shapes=shapes, state={name: arrays[name] for name in state if name in arrays})

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def cut(self, start: int, stop: int) -> dict[str, Array]:
        """Samples `start` to `stop`, which have one shape, without their padding."""
        return {name: self._cut(name, array, start, stop) for name, array in self.values.items()}

    def _cut(self, name: str, array: Array, start: int, stop: int) -> Array:
        if name not in self.shapes:
            return array[start:stop]
        return array[(slice(start, stop), *(slice(0, int(size)) for size in self.shapes[name][start]))]

    def runs(self, most: int) -> Iterator[tuple[int, int]]:
        """Start and stop of calls: neighbours of one shape, at most so many."""
        start, count = 0, len(self)
        while start < count:
            stop = start + 1
            while stop < min(start + most, count) and self.alike(start, stop):
                stop += 1
            yield start, stop
            start = stop

    def alike(self, one: int, other: int) -> bool:
        """Two samples have the same shapes."""
        return all(np.array_equal(shapes[one], shapes[other]) for shapes in self.shapes.values())

    def sizes(self) -> Array:
        """int64 [N]: number of values in each sample, over all inputs."""
        total = np.zeros(len(self), np.int64)
        for name, array in self.values.items():
            each = self.shapes[name].prod(axis=1) if name in self.shapes else int(np.prod(array.shape[1:]))
            total += each
        return total


class OutputAccumulator:
    """Outputs of one call after the other, put together."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {}

    def add(self, outputs: Arrays) -> None:
        """Outputs [n, ...] of the next samples."""
        for name, array in outputs.items():
            self._parts.setdefault(name, []).append(array)

    def arrays(self) -> dict[str, Array]:
        """Arrays [N, ...] by name, padded where samples differ in shape (see the module)."""
        found: dict[str, Array] = {}
        for name, parts in self._parts.items():
            shapes = {part.shape[1:] for part in parts}
            if len(shapes) == 1:
                found[name] = np.concatenate(parts)
            elif len({len(shape) for shape in shapes}) > 1:
                raise SamplesError(
                    asked=f"keep output {name!r} of every sample",
                    found=f"{sorted({len(shape) + 1 for shape in shapes})} axes, by the sample",
                    fix="let the output have the same number of axes whatever is fed",
                )
            else:
                found[name] = _padded(parts)
                found[f"{name}{SHAPE}"] = np.concatenate(
                    [np.tile(np.asarray(part.shape[1:], np.int64), (len(part), 1)) for part in parts]
                )
        return found


def _padded(parts: Sequence[Array]) -> Array:
    whole = tuple(int(size) for size in np.max([part.shape[1:] for part in parts], axis=0))
    array = np.zeros((sum(map(len, parts)), *whole), parts[0].dtype)
    start = 0
    for part in parts:
        array[(slice(start, start + len(part)), *(slice(0, size) for size in part.shape[1:]))] = part
        start += len(part)
    return array


def run_rows(
    run: RunModel, rows: RaggedBatch, *, batch: int, state: Mapping[str, str], starts: Sequence[int]
) -> dict[str, Array]:
    """The outputs for every sample but the state, in calls of neighbours of one shape, at most `batch`.

    With a state each call takes one sample, and what an output gives goes into the input that it feeds, in the next
    call; it is as it began again at each of `starts`.

    Raises:
        SamplesError: An output that has not one row for each sample.

    """
    gathered, begins, held = OutputAccumulator(), set(starts), dict(rows.state)
    for start, stop in rows.runs(1 if state else batch):
        if start in begins:
            held = dict(rows.state)
        outputs = run({**rows.cut(start, stop), **held})
        held = {into: outputs[out] for out, into in state.items()}
        gathered.add({name: per_sample(name, a, stop - start) for name, a in outputs.items() if name not in state})
    return gathered.arrays()


def per_sample(name: str, array: Array, count: int) -> Array:
    """The output of a call with `count` samples, with an axis 0 that counts them.

    Raises:
        SamplesError: It has not one row for each of them.

    """
    if array.ndim == 0 and count == 1:
        one: Array = array.reshape(1)  # a call of one sample gave one number
        return one
    if array.ndim == 0 or len(array) != count:
        raise SamplesError(
            asked=f"keep output {name!r} of every sample",
            found=f"shape {list(array.shape)} for {count} samples",
            fix="let axis 0 of every output be the batch",
            details={"problem": "batch"},
        )
    return array


def resized(array: Array, axis: int, size: int) -> Array:
    """The array with another size of an axis: its head, or itself again and again, so that values stay possible."""
    taken: Array = np.take(array, np.arange(size) % max(array.shape[axis], 1), axis=axis)
    return taken
