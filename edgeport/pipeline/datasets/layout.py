"""Samples of several shapes and the steps of sequences: what is free, what a state begins with, what is timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeport.contracts import Array, Arrays, AxisRange, Sample, TensorSpec
from edgeport.ragged import resized

__all__ = ["Layout", "Timed"]

_WARM_STEPS = 16
"""Steps of the first sequence before the timed call, at most: by then a state holds what it holds in use."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Which sample is timed.

    Attributes:
        row: Its index in the evaluation set.
        starts: Indices of the samples at which a sequence begins.
        is_ragged: Samples differ in shape.
        notes: What a reader of latencies must know, a sentence each.

    """

    row: int
    starts: Sequence[int]
    is_ragged: bool
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is known of the inputs beside the samples themselves.

    Attributes:
        specs: Inputs that samples feed, as declared or as the model has them; empty where neither is known yet.
        axes: Ranges of free axes.
        states: Inputs that the model feeds itself.
        initial: What fills them first, by input.

    """

    specs: tuple[TensorSpec, ...] = ()
    axes: Mapping[str, AxisRange] = field(default_factory=dict)
    states: tuple[TensorSpec, ...] = ()
    initial: Mapping[str, float] = field(default_factory=dict)

    def free(self, name: str) -> frozenset[int]:
        """Axes of an input, but the batch, whose size may differ from sample to sample."""
        found = [spec.dynamic_axes for spec in self.specs if spec.name == name]
        return frozenset(index for index in (found[0] if found else ()) if index > 0)

    @property
    def free_in_target(self) -> frozenset[int]:
        """Labels of each step are as many as the steps."""
        return frozenset(range(1, 8)) if any(self.free(spec.name) for spec in self.specs) else frozenset()

    def begins(self, batch: int = 1) -> dict[str, Array]:
        """What each state begins with; a free axis of it is the batch."""
        return {
            spec.name: np.full(
                [batch if isinstance(size, str) else size for size in spec.shape],
                self.initial.get(spec.name, 0.0),
                np.dtype(spec.dtype),
            )
            for spec in self.states
        }

    def traceable(self, example: Arrays) -> dict[str, Array]:
        """The example for an export: no free axis of size 1, which tracers take for a constant; and the states."""
        arrays = dict(example)
        for spec in self.specs:
            for index, label in spec.dynamic_axes.items():
                if index > 0 and spec.name in arrays and index < arrays[spec.name].ndim:
                    factor = int(label.partition("*")[0]) if "*" in label else 1
                    least = max(2 * factor, arrays[spec.name].shape[index])
                    arrays[spec.name] = resized(arrays[spec.name], index, least)
        return {**arrays, **self.begins(len(next(iter(arrays.values()))))}

    def timed(self, shapes: Mapping[str, Array], starts: Sequence[int], head: Sequence[Sample], count: int) -> Timed:
        """The sample that is timed: nearest to the declared sizes, or of median size; of a sequence, a later step.

        Args:
            shapes: int64 [N, axes] by input, of those whose samples differ in shape.
            starts: Where sequences begin.
            head: The first samples.
            count: Of all samples.

        """
        if self.states:
            length = starts[1] if len(starts) > 1 else count
            row = min(length, _WARM_STEPS) - 1
            note = f"Latencies are of step {row + 1} of a sequence, with the state that the steps before it left."
            return Timed(row=row, starts=starts, is_ragged=bool(shapes), notes=[note])
        named = self._sizes(shapes)
        if not named:
            fixed = {
                label: batch.feeds[spec.name].shape[index]
                for spec in self.specs
                for batch in head[:1]
                for index, label in spec.dynamic_axes.items()
                if index > 0 and label.rpartition("*")[2] in self.axes
            }
            said = ", ".join(f"{label} {size}" for label, size in fixed.items())
            return Timed(
                row=0, starts=starts, is_ragged=False, notes=[f"Latencies are of samples with {said}."] if said else []
            )
        distance = np.zeros(len(next(iter(named.values()))))
        for label, sizes in named.items():
            factor, _, root = label.rpartition("*")
            span = self.axes.get(root)
            wanted = np.median(sizes)
            if span is not None and span.timed is not None:
                wanted = span.timed * (int(factor) if factor else 1)
            distance += np.abs(sizes - wanted) / max(float(wanted), 1.0)
        row = int(np.argmin(distance))
        said = ", ".join(f"{name} {s[row]} (samples have {s.min()} to {s.max()})" for name, s in named.items())
        return Timed(row=row, starts=starts, is_ragged=True, notes=[f"Latencies are of sample {row}: {said}."])

    def _sizes(self, shapes: Mapping[str, Array]) -> dict[str, Array]:
        """int64 [N] by the label of each axis that differs from sample to sample."""
        found: dict[str, Array] = {}
        for spec in self.specs:
            if spec.name not in shapes:
                continue
            for index, label in spec.dynamic_axes.items():
                sizes = shapes[spec.name][:, index - 1] if index > 0 else np.zeros(0)
                if index > 0 and len(np.unique(sizes)) > 1:
                    found.setdefault(label, sizes)
        return found
