"""Checks of samples against a model's inputs, and of two sets against each other."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeport.calibration.data.digests import DigestedSet, SetDigester
from edgeport.calibration.data.sequences import axis_parts
from edgeport.contracts import Array, AxisRange, Sample, SampleSet, TensorSpec
from edgeport.errors import SamplesError

__all__ = ["FEW", "Lint", "SampleChecker", "check_disjoint", "check_samples"]

FEW = 32
"""Below this, rare values are likely to be missed; published recipes use 100 to 1000."""


@dataclass(frozen=True, kw_only=True)
class Lint:
    """Something odd about samples that can still be used.

    Attributes:
        code: "CONSTANT_TENSOR", "SAME_TENSOR", "ONE_SAMPLE", "FEW_SAMPLES", "DUPLICATES" or "OUT_OF_RANGE"; of two
            sets, "UNLIKE_EVALUATION"; of labels, "MISSING_CLASS" or "UNBALANCED".
        message: In a sentence, with the numbers.
        input: Name of the input, where it is about one.

    """

    code: str
    message: str
    input: str = ""


@dataclass(kw_only=True)
class _InputStatistics:
    """Extremes of one input over all samples, and whether it ever changes."""

    minimum: float = math.inf
    maximum: float = -math.inf
    first: Array | None = None
    same: bool = True
    count: int = 0

    def add(self, array: Array) -> None:
        self.first = array[0].copy() if self.first is None else self.first
        self.same = self.same and array.shape[1:] == self.first.shape and bool((array == self.first).all())
        self.count += len(array)
        if array.size:
            self.minimum = min(self.minimum, float(array.min()))
            self.maximum = max(self.maximum, float(array.max()))


class Observer(Protocol):
    """Sees every sample of one input."""

    def add(self, rows: Array, /) -> None:
        """Samples [n, ...] of numbers."""
        ...


def check_samples(
    samples: SampleSet,
    specs: tuple[TensorSpec, ...],
    axes: Mapping[str, AxisRange] | None = None,
    observers: Mapping[str, Observer] | None = None,
) -> list[Lint]:
    """Walks the set once and compares every batch with the model's inputs.

    Args:
        samples: The set; it learns its fingerprint and digests on the way.
        specs: The model's inputs (`OnnxModel.inputs`). A constant axis 0 is the model's fixed batch, into which samples
            are grouped later (`rebatch`), so it is not compared.
        axes: Ranges of free axes, where they were declared.
        observers: By input, all of them; each is shown its batches on the same walk.

    Returns:
        What is odd but usable.

    Raises:
        SamplesError: A wrong name, shape or dtype, NaN or Inf, or no samples; `details["problem"]` says which.

    """
    checking = SampleChecker(specs, axes, observers)
    for sample in samples:
        checking.passed(sample)
    return checking.found(samples)


class SampleChecker:
    """Checks of a set batch by batch, for whoever walks it.

    Args:
        specs: As in `check_samples`.
        axes: As there.
        observers: As there.

    """

    def __init__(
        self,
        specs: tuple[TensorSpec, ...],
        axes: Mapping[str, AxisRange] | None = None,
        observers: Mapping[str, Observer] | None = None,
    ) -> None:
        self._specs = specs
        self._axes = axes or {}
        self._observers = observers
        self._seen = {spec.name: _InputStatistics() for spec in specs}
        self._walking = SetDigester()
        self._steps = False
        self._count = 0

    def passed(self, sample: Sample) -> Sample:
        """The next batch, checked.

        Raises:
            SamplesError: As `check_samples`.

        """
        _check_names(sample, self._specs)
        _check_shapes(sample, self._specs, self._count)
        _check_ranges(sample, self._specs, self._axes, self._count)
        for spec in self._specs:
            array = sample.feeds[spec.name]
            _check_values(array, spec, self._count)
            if array.dtype.kind in "fiub":
                self._seen[spec.name].add(array)
                if self._observers is not None:
                    self._observers[spec.name].add(array)
        self._walking.add(sample)
        self._steps = self._steps or sample.first is not None
        self._count += len(sample)
        return sample

    def found(self, samples: SampleSet) -> list[Lint]:
        """What is odd but usable, after the last batch of the set, which learns its fingerprint and digests.

        Raises:
            SamplesError: There were no samples.

        """
        if not self._count:
            raise SamplesError(
                asked="use a set of samples",
                found="an empty set",
                fix="give at least one sample, better 100 or more",
                details={"problem": "empty"},
            )
        found = self._walking.found()
        if isinstance(samples, DigestedSet):
            samples.remember(found)
        return [
            *_lint_count(self._count, self._count if self._steps else len(found.digests)),
            *(lint for spec in self._specs for lint in _lint_values(spec, self._seen[spec.name])),
        ]


_DOING = {"calibration": "calibrate on", "training": "learn from"}


def check_disjoint(used: SampleSet, evaluation: SampleSet, which: str = "calibration") -> None:
    """Makes sure that no sample is in both sets: judging by what was calibrated with, or learned, flatters the result.

    Args:
        used: The calibration or training samples.
        evaluation: The others.
        which: What the first set is called.

    Raises:
        SamplesError: They share samples.

    """
    shared = used.digests() & evaluation.digests()
    if shared:
        raise SamplesError(
            asked=f"{_DOING[which]} one set of samples and evaluate on another",
            found=f"{len(shared)} of {len(evaluation.digests())} evaluation samples in the {which} set too",
            fix="take them out of one of the two",
            details={"problem": "overlap", "shared": len(shared)},
        )


def _check_names(sample: Sample, specs: Sequence[TensorSpec]) -> None:
    wanted = [spec.name for spec in specs]
    complete = all(name in sample.feeds for name in wanted)
    for name in sample.feeds:
        if name not in wanted and complete:
            raise SamplesError(
                asked=f"feed input {name!r}",
                found=f"a model with inputs {', '.join(map(repr, wanted))}, all of which are there",
                fix=f"if these are the labels, name them as the target (--target {name}); else leave the array out",
                details={"problem": "name", "input": name},
            )
        if name not in wanted:
            near = difflib.get_close_matches(name, wanted, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SamplesError(
                asked=f"feed input {name!r}",
                found=f"a model with inputs {', '.join(map(repr, wanted))}",
                fix=f"{hint}name the arrays as the model names its inputs",
                details={"problem": "name", "input": name},
            )
    for name in wanted:
        if name not in sample.feeds:
            raise SamplesError(
                asked="run the model on a sample",
                found=f"no array for input {name!r} among {', '.join(map(repr, sample.feeds))}",
                fix=f"add {name!r} to every sample",
                details={"problem": "name", "input": name},
            )


def _check_shapes(sample: Sample, specs: Sequence[TensorSpec], start: int) -> None:
    axes: dict[str, tuple[str, int]] = {}
    for spec in specs:
        shape = sample.feeds[spec.name].shape
        fits = len(shape) == len(spec.shape)
        reason = ""
        for axis, (size, wanted) in enumerate(zip(shape, spec.shape, strict=False)):
            if isinstance(wanted, str):
                other, known = axes.setdefault(wanted, (spec.name, size))
                if known != size:
                    fits = False
                    reason = f" (axis {wanted!r} is {known} in {other!r})"
            elif axis > 0:
                fits = fits and size == wanted
        if not fits:
            raise SamplesError(
                asked=f"feed input {spec.name!r} of shape {_shape(spec.shape)}",
                found=f"shape {_shape(shape)} in {_where(sample, start)}{reason}",
                fix=_shape_fix(shape, spec.shape),
                details={"problem": "shape", "input": spec.name},
            )


def _check_ranges(sample: Sample, specs: Sequence[TensorSpec], axes: Mapping[str, AxisRange], start: int) -> None:
    for spec in specs:
        for index, label in spec.dynamic_axes.items():
            factor, root = axis_parts(label)
            size = sample.feeds[spec.name].shape[index]
            span = axes.get(root)
            low, high = (span.minimum, span.maximum) if span is not None else (0, size // factor)
            if size % factor or not low <= size // factor <= high:
                wanted = f"a multiple of {factor}" if factor > 1 else ""
                between = f"{factor * low} to {factor * high}" if span is not None else ""
                raise SamplesError(
                    asked=f"feed input {spec.name!r} with {label} of {' '.join(filter(None, (between, wanted)))}",
                    found=f"{size} in {_where(sample, start)}",
                    fix=f"widen range in [axes.{root}], or cut or pad the samples"
                    if span is not None
                    else "pad the samples to a multiple",
                    details={"problem": "range", "input": spec.name, "axis": root},
                )


def _shape_fix(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> str:
    if len(shape) == len(wanted) - 1:
        return "axis 0 is the batch: add it with array[None]"
    if len(shape) == 4 and tuple(shape[i] for i in (0, 3, 1, 2))[1:] == wanted[1:]:
        return "the channels come last; move them with array.transpose(0, 3, 1, 2)"
    return "preprocess the samples to the model's shape"


def _check_values(array: Array, spec: TensorSpec, start: int) -> None:
    dtype = "string" if array.dtype.kind in "UTO" else str(array.dtype)
    if dtype != spec.dtype:
        raise SamplesError(
            asked=f"feed input {spec.name!r} of dtype {spec.dtype}",
            found=f"dtype {dtype}",
            fix=f"convert it, where that keeps the values: array.astype({spec.dtype!r})",
            details={"problem": "dtype", "input": spec.name},
        )
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            bad = int(array.size - finite.sum())
            row = start + int(np.argwhere(~finite)[0][0])
            kind = "NaN" if np.isnan(array).any() else "Inf"
            raise SamplesError(
                asked=f"feed input {spec.name!r} with finite values",
                found=f"{kind} in sample {row} ({bad} of {array.size} values of its batch)",
                fix="find where the preprocessing divides by zero or overflows, or drop the sample",
                details={"problem": "nonfinite", "input": spec.name, "sample": row},
            )


def _lint_count(count: int, distinct: int) -> list[Lint]:
    lints = []
    if count == 1:
        lints.append(Lint(code="ONE_SAMPLE", message="one sample: ranges will fit it and little else"))
    elif count < FEW:
        lints.append(Lint(code="FEW_SAMPLES", message=f"{count} samples; {FEW} or more give steadier ranges"))
    if distinct < count:
        lints.append(Lint(code="DUPLICATES", message=f"{count - distinct} of {count} samples occur more than once"))
    return lints


def _lint_values(spec: TensorSpec, seen: _InputStatistics) -> list[Lint]:
    lints = []
    if seen.minimum == seen.maximum:
        message = f"input {spec.name!r} is {seen.minimum:g} everywhere"
        lints.append(Lint(code="CONSTANT_TENSOR", message=message, input=spec.name))
    elif seen.same and seen.count > 1:
        message = f"input {spec.name!r} is the same in all {seen.count} samples"
        lints.append(Lint(code="SAME_TENSOR", message=message, input=spec.name))
    if spec.value_range is not None and seen.minimum <= seen.maximum:
        low, high = spec.value_range
        if seen.minimum < low or seen.maximum > high:
            message = (
                f"input {spec.name!r} spans {seen.minimum:g} .. {seen.maximum:g}, declared is {low:g} .. {high:g}; "
                "is the preprocessing the same as in training?"
            )
            lints.append(Lint(code="OUT_OF_RANGE", message=message, input=spec.name))
    return lints


def _shape(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _where(sample: Sample, start: int) -> str:
    return f"samples {start}..{start + len(sample) - 1}" if len(sample) > 1 else f"sample {start}"
