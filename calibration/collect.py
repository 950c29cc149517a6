"""Runs the samples through the model once and watches every activation on the way.

The model gets its activations as outputs, in a temporary copy; the runtime is handed over by the caller. What is kept
is one observer state per tensor, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeport.calibration.batch_axis import batch_axis, by_sample
from edgeport.calibration.data.part import Part
from edgeport.calibration.data.rebatch import rebatch, rows_of
from edgeport.calibration.graph import activations, infer_types
from edgeport.calibration.observed import open_observed
from edgeport.calibration.observers import OBSERVERS, Observer
from edgeport.contracts import (
    Array,
    Arrays,
    Calibration,
    OnnxModel,
    OnProgress,
    OpenModel,
    ProgressEvent,
    RunModel,
    Sample,
    SampleSet,
    TensorStatistics,
    silent,
)
from edgeport.errors import CalibrationError, EdgeportError
from edgeport.onnx_files import read_ir, refuse_quantized

__all__ = ["collect", "require_finite", "watchable"]

SLICE_BYTES = 16 << 20
"""Activations that one call returns: a larger batch is cut. With four times as many, two residual networks held 140 and
200 MB more at their peak (the runtime's arena keeps what it had), and took 0 to 5 % less CPU; a small transformer took
13 % less."""

FETCH_BYTES = 1 << 30
"""Activations of the smallest batch. Where there are more, they are fetched in groups, each in a walk of its own."""

_Watched = dict[str, dict[str, Observer]]


def collect(  # noqa: PLR0913 (what is watched, over what, by what)
    model: OnnxModel,
    samples: SampleSet,
    open_model: OpenModel,
    *,
    observers: Mapping[str, type[Observer]] = OBSERVERS,
    tensors: Sequence[str] | None = None,
    initial: Arrays | None = None,
    on_progress: OnProgress = silent,
) -> Calibration:
    """Statistics of a model's activations over a sample set.

    Args:
        model: A float model; its file is only read.
        samples: Walked once, twice where its fingerprint was not known, more often where tensors come in groups. For
            a model with a fixed batch they are grouped into it; the last group is filled up with its own samples
            again, which then count more than once.
        open_model: Opens an ONNX file with some runtime.
        observers: What watches each tensor, by the name its state is kept under.
        tensors: Names of the tensors to watch; None for all of them (see `watchable`).
        initial: What each state of a stateful model begins with, by input; then samples are fed one by one, outputs are
            fed back, and the state begins anew at each sample that is `first`.
        on_progress: Told after each batch, in samples.

    Returns:
        One state per tensor and observer. The file order of `samples`, its batches and the groups of tensors do not
        show in it.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        CalibrationError: No samples, an unknown tensor, or one that was never computed or never finite (in a `Part`
            of the samples that is nothing wrong; `merge_calibrations` looks again).

    """
    names = _names(model, tensors)
    count = len(samples)
    if count < 1:
        raise CalibrationError(
            asked="calibrate", found="an empty sample set", fix="give at least one sample, better 100 or more"
        )
    fed = _Fed(model, dict(initial or {}))
    whole = model.fixed_batch is None or model.state
    batches = samples if whole else rebatch(samples, model.fixed_batch or 1, fill_up=True)
    watched: _Watched = {name: {key: observer() for key, observer in observers.items()} for name in names}

    with tempfile.TemporaryDirectory(prefix="edgeport-calibrate-") as folder:
        with open_observed(model, names, open_model, Path(folder)) as run:
            feeds = fed.smallest(next(iter(batches)))
            sizes, axes = _probe(fed, feeds, run, names)
            rows, groups = _cut(sizes)
            if None in axes.values():
                rows = 1  # a call is then one sample, whatever the batches and however short the sample
            else:
                fed.probed_values = sum(array.size for array in feeds.values())
            walk = _Walk(fed=fed, batches=batches, watched=watched, axes=axes, rows=rows)
            if len(groups) == 1:
                for done in walk.over(names, run):
                    _tell(on_progress, names, min(done, count), count)
        if len(groups) > 1:
            for index, group in enumerate(groups):
                with open_observed(model, group, open_model, Path(folder)) as run:
                    for done in walk.over(group, run):
                        _tell(on_progress, names, index * count + min(done, count), count * len(groups))
    statistics = {name: {key: observer.state() for key, observer in watched[name].items()} for name in names}
    if not isinstance(samples, Part):  # else another part may have finite values: looked at when they are merged
        require_finite(statistics)
    return Calibration(
        model_digest=model.digest, samples_fingerprint=samples.fingerprint, sample_count=count, statistics=statistics
    )


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """How the samples go through the model.

    Attributes:
        fed: Calls the model.
        batches: Of all samples.
        watched: Observers by tensor, which take in what they see.
        axes: Of each tensor, the one that counts samples.
        rows: Samples in a call, at most.

    """

    fed: _Fed
    batches: SampleSet
    watched: _Watched
    axes: Mapping[str, int | None]
    rows: int

    def over(self, names: Sequence[str], run: RunModel) -> Iterator[int]:
        """Shows these tensors to their observers; yields the samples done, with those that fill up the last group."""
        done = 0
        for sample in self.batches:
            for arrays, count in self.fed.arrays(run, sample, self.rows):
                for name in names:
                    array = by_sample(arrays[name], self.axes[name], count)
                    for observer in self.watched[name].values():
                        observer.update(array)
            done += len(sample)
            yield done


def _tell(on_progress: OnProgress, names: Sequence[str], done: int, total: int) -> None:
    on_progress(ProgressEvent(stage="calibrate", message=f"{len(names)} tensors", done=done, total=total))


def watchable(model: OnnxModel) -> list[str]:
    """Names of the tensors that `collect` watches when none are named: every float activation."""
    return _watchable(read_ir(model))


def _watchable(ir_model: ir.Model) -> list[str]:
    infer_types(ir_model)
    return [value.name for value in activations(ir_model.graph) if value.name]


def _names(model: OnnxModel, tensors: Sequence[str] | None) -> list[str]:
    """The tensors to watch, each once, in the order in which they are computed."""
    ir_model = read_ir(model)
    refuse_quantized(ir_model, f"calibrate {model.path.name}")
    every = _watchable(ir_model)
    if tensors is None:
        return every
    unknown = sorted(set(tensors) - set(every))
    if unknown:
        near = difflib.get_close_matches(unknown[0], every, n=1)
        raise CalibrationError(
            asked=f"watch tensor {unknown[0]!r}",
            found="no float activation of this name",
            fix=f"did you mean {near[0]!r}?" if near else "name one of those that watchable() lists",
            details={"unknown": unknown},
        )
    wanted = set(tensors)
    return [name for name in every if name in wanted]


class _Fed:
    """How a model is fed: in parts of a batch, or step by step with its own state.

    Attributes:
        probed_values: Values in the sample by which the number of rows in a call was chosen; longer ones come fewer at
            once. 0 where it is not known, or where it does not matter.

    """

    def __init__(self, model: OnnxModel, initial: dict[str, Array]) -> None:
        self.model = model
        self.initial = initial
        self.probed_values = 0
        self._held: dict[str, Array] = dict(initial)

    def arrays(self, run: RunModel, sample: Sample, rows: int) -> Iterator[tuple[Arrays, int]]:
        """Feeds and outputs of each call over a batch, and its samples; a call takes at most `rows` of them."""
        if not self.model.state:
            for part in self._slices(sample, rows):
                yield {**part.feeds, **run(part.feeds)}, len(part)
            return
        for step in rows_of(sample):
            if step.first is not None and step.first[0]:
                self._held = dict(self.initial)
            feeds = {**step.feeds, **self._held}
            outputs = run(feeds)
            self._held = {into: outputs[out] for out, into in self.model.state.items()}
            yield {**feeds, **outputs}, 1

    def smallest(self, sample: Sample) -> dict[str, Array]:
        """Feeds of the smallest call: one sample, or the fixed batch."""
        one = next(rows_of(sample)) if self.model.state or _takes_any_batch(self.model) else sample
        return {**one.feeds, **self.initial}

    def _slices(self, sample: Sample, rows: int) -> Iterator[Sample]:
        if self.probed_values:
            values = sum(array.size for array in sample.feeds.values()) // len(sample)
            rows = max(1, rows * self.probed_values // max(values, 1))
        if len(sample) <= rows or not _takes_any_batch(self.model):
            yield sample
            return
        for start in range(0, len(sample), rows):
            yield Sample(feeds={name: array[start : start + rows] for name, array in sample.feeds.items()})


def _probe(
    fed: _Fed, feeds: dict[str, Array], run: RunModel, names: Sequence[str]
) -> tuple[dict[str, int], dict[str, int | None]]:
    """Bytes that fetching each tensor takes for the smallest batch of the model, and its axis that counts samples.

    Args:
        fed: Says whether a batch can be chosen.
        feeds: Of the smallest batch: one sample, or the model's fixed batch.
        run: The model.
        names: Of the tensors.

    """
    arrays = {**feeds, **run(feeds)}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CalibrationError(
            asked=f"watch tensor {missing[0]!r}",
            found="a runtime that returned no such output",
            fix="hand over a runtime that returns every output of the model, by name",
            details={"missing": missing},
        )
    sizes = {name: 0 if name in feeds else arrays[name].nbytes for name in names}
    return sizes, _axes(fed, feeds, run, {name: arrays[name].shape for name in names}, sum(sizes.values()))


def _axes(
    fed: _Fed, feeds: dict[str, Array], run: RunModel, once: Mapping[str, tuple[int, ...]], size_bytes: int
) -> dict[str, int | None]:
    """The axis of each tensor that counts samples, where there is one and batches can be chosen (see `batch_axis`).

    Args:
        fed: Says whether a batch can be chosen.
        feeds: Of one sample.
        run: The model.
        once: Shapes of the tensors for this one sample.
        size_bytes: All of them together.

    """
    if fed.model.state or not _takes_any_batch(fed.model) or size_bytes > FETCH_BYTES:
        return dict.fromkeys(once)
    pair = {name: np.concatenate([array, array]) for name, array in feeds.items()}
    try:
        twice = {**pair, **run(pair)}
    except EdgeportError:
        return dict.fromkeys(once)  # a batch that is free by name alone: such a model is called with one sample
    return {name: batch_axis(shape, twice[name].shape) for name, shape in once.items()}


def _cut(sizes: Mapping[str, int]) -> tuple[int, list[list[str]]]:
    """Smallest batches per call that keep to SLICE_BYTES, and groups of tensors that keep to FETCH_BYTES.

    Args:
        sizes: Bytes of each tensor for the smallest batch.

    """
    groups: list[list[str]] = [[]]
    held = largest = 0
    for name, size in sizes.items():
        if groups[-1] and held + size > FETCH_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
        largest = max(largest, held)
    return max(1, SLICE_BYTES // max(largest, 1)), groups


def _takes_any_batch(model: OnnxModel) -> bool:
    return all(spec.shape and isinstance(spec.shape[0], str) for spec in model.fed)


def require_finite(statistics: Mapping[str, TensorStatistics]) -> None:
    """No tensor was not finite all the time, and not all were empty.

    One that is empty in every sample, such as a rotation of no dimensions, has no range: its nodes stay in float.

    Raises:
        CalibrationError: One was.

    """
    counts = {
        name: (int(observers["extremes"]["count"]), int(observers["extremes"]["nonfinite"]))
        for name, observers in statistics.items()
        if "extremes" in observers
    }
    all_empty = not any(count for count, _ in counts.values())
    for name, (count, nonfinite) in counts.items():
        if count == nonfinite and (count or all_empty):
            found = f"NaN or Inf in all of its {count} values" if count else "no values: it was empty in every sample"
            raise CalibrationError(
                asked=f"calibrate tensor {name!r}",
                found=found,
                fix="run the float model on these samples and see where it goes wrong, or give other samples",
                details={"tensor": name},
            )
