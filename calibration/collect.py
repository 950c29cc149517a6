"""Runs the samples through the model once and watches every activation on the way.

A temporary copy of the model gives its small activations as outputs and sums up the large ones; the runtime is handed
over by the caller. What is kept is one observer state per tensor, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import difflib
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeport.calibration.batch_axis import batch_axis
from edgeport.calibration.data.rebatch import rebatch
from edgeport.calibration.data.shard import Shard
from edgeport.calibration.graph import activations, same_values
from edgeport.calibration.in_graph_statistics import StatisticsModel, SummaryConfig, can_sum_up
from edgeport.calibration.inference_loop import InferenceRun, ModelFeeder, takes_any_batch
from edgeport.calibration.intermediate_outputs import open_shapes
from edgeport.calibration.observer_feed import ObserverFeed
from edgeport.calibration.observers import OBSERVERS, Observer, SummaryObserver
from edgeport.calibration.observers.histogram import MOST_VALUES, every, most_values
from edgeport.contracts import (
    Arrays,
    Calibration,
    OnnxModel,
    OnProgress,
    OpenModel,
    ProgressEvent,
    SampleSet,
    TensorStatistics,
    silent,
)
from edgeport.errors import CalibrationError, EdgeportError
from edgeport.onnx_files import infer_types, read_ir, refuse_quantized

__all__ = ["collect", "require_finite", "watchable"]

SLICE_BYTES = 16 << 20
"""Activations of one call that are held at once: a larger batch is cut. With four times as many, two residual networks
held 140 and 200 MB more at their peak (the runtime's arena keeps what it had), and took 0 to 5 % less CPU; a small
transformer took 13 % less."""

FETCH_BYTES = 1 << 30
"""Activations that the smallest batch returns, or all calls together that are on their way. Where there are more, they
are fetched in groups, each in a walk of its own."""

WHOLE_VALUES = 4096
"""A tensor with no more in a sample is returned: summing it up takes longer than copying it."""

COUNTED_VALUES = 4 * MOST_VALUES
"""The same where some of its values are counted: a runtime picks every k-th one slowly."""

_PICKED = 8
"""The same where few of them are counted: a tensor with so many times as many is summed up all the same."""

_LIVE = 4
"""Tensors as large as the largest that a runtime holds at once, of those that are not returned: a guess."""


def collect(  # noqa: PLR0913 (what is watched, over what, by what)
    model: OnnxModel,
    samples: SampleSet,
    open_model: OpenModel,
    *,
    observers: Mapping[str, type[Observer]] = OBSERVERS,
    tensors: Sequence[str] | None = None,
    initial: Arrays | None = None,
    at_once: int = 1,
    open_side_by_side: OpenModel | None = None,
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
        at_once: Calls that are on their way at the same time where a call can't be made larger and there is no state:
            the batch is fixed, or one sample holds all the memory there is for a call. What sums up tensors keeps few
            processors busy.
        open_side_by_side: Opens the file for such calls, and gives each its share of the processors; None for
            `open_model`.
        on_progress: Told after each batch, in samples.

    Returns:
        One state per tensor and observer. The file order of `samples`, its batches and the groups of tensors do not
        show in it.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        CalibrationError: No samples, an unknown tensor, or one that was never computed or never finite (in a `Shard`
            of the samples that is nothing wrong; `merge_calibrations` looks again).

    """
    names, alike = _wanted(model, tensors)
    count = len(samples)
    if count < 1:
        raise CalibrationError(
            asked="calibrate", found="an empty sample set", fix="give at least one sample, better 100 or more"
        )
    fed = ModelFeeder(model, dict(initial or {}))
    whole = model.fixed_batch is None or model.state
    batches = samples if whole else rebatch(samples, model.fixed_batch or 1, fill_up=True)

    with tempfile.TemporaryDirectory(prefix="edgeport-calibrate-") as folder:
        once, axes = _probe(fed, batches, open_model, names, Path(folder))
        same = _same(alike, axes)
        apart = {name: size for name, size in names.items() if same[name] == name}
        asked = [observer() for observer in observers.values()]
        summed_up = can_sum_up(model) and all(isinstance(one, SummaryObserver) for one in asked)
        single = None in axes.values()  # a call is then one sample, whatever the batches and however short the sample
        counted = any(isinstance(one, SummaryObserver) and one.needs_counted for one in asked)
        most = _most_of_a_sample(model, samples, single=single) if counted else 0
        looks = _looks(model, apart, once, axes, most) if summed_up else {}
        cut = partial(_cut, apart, once, looks, fed={spec.name for spec in model.inputs})
        rows, groups, at_once = _calls(cut, 1 if model.state else at_once, single=single, fixed=not whole)
        opened = open_side_by_side if at_once > 1 and open_side_by_side is not None else open_model
        watching = ObserverFeed(apart, observers, axes, most)
        walk = InferenceRun(fed=fed, batches=batches, watching=watching, rows=rows, at_once=at_once)
        for index, group in enumerate(groups):
            with StatisticsModel(model, group, looks, opened, Path(folder), moves=single) as summarising:
                for done in walk.over(group, summarising):
                    _tell(on_progress, names, index * count + min(done, count), count * len(groups))
    states = watching.states()
    statistics = {name: states[same[name]] for name in names}
    if not isinstance(samples, Shard):  # else another part may have finite values: looked at when they are merged
        require_finite(statistics)
    return Calibration(
        model_digest=model.digest, samples_fingerprint=samples.fingerprint, sample_count=count, statistics=statistics
    )


def _tell(on_progress: OnProgress, names: Collection[str], done: int, total: int) -> None:
    on_progress(ProgressEvent(stage="calibrate", message=f"{len(names)} tensors", done=done, total=total))


def watchable(model: OnnxModel) -> list[str]:
    """Names of the tensors that `collect` watches when none are named: every float activation."""
    return list(_value_bytes(read_ir(model)))


def _value_bytes(ir_model: ir.Model) -> dict[str, int]:
    """What one value takes, of each tensor that can be watched."""
    infer_types(ir_model)
    return {
        value.name: int(value.dtype.itemsize) for value in activations(ir_model.graph) if value.name and value.dtype
    }


def _wanted(model: OnnxModel, tensors: Sequence[str] | None) -> tuple[dict[str, int], list[list[str]]]:
    """The tensors to watch, in the order in which they are computed, with the bytes of one value; see `same_values`."""
    ir_model = read_ir(model)
    refuse_quantized(ir_model, f"calibrate {model.path.name}")
    known = _value_bytes(ir_model)
    unknown = sorted(set(tensors or ()) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise CalibrationError(
            asked=f"watch tensor {unknown[0]!r}",
            found="no float activation of this name",
            fix=f"did you mean {near[0]!r}?" if near else "name one of those that watchable() lists",
            details={"unknown": unknown},
        )
    wanted = set(known if tensors is None else tensors)
    return {name: size for name, size in known.items() if name in wanted}, same_values(ir_model.graph, wanted)


def _probe(
    fed: ModelFeeder, batches: SampleSet, open_model: OpenModel, names: Collection[str], folder: Path
) -> tuple[dict[str, tuple[int, ...]], dict[str, int | None]]:
    """Shape of each tensor for the smallest batch of the model, and its axis that counts samples (see `batch_axis`).

    Args:
        fed: Says whether a batch can be chosen; learns how large the sample was by which it is.
        batches: Of all samples.
        open_model: Opens an ONNX file with some runtime.
        names: Of the tensors.
        folder: For temporary files.

    """
    feeds = fed.smallest(next(iter(batches)))
    with open_shapes(fed.model, names, open_model, folder) as shapes_of:
        shapes = shapes_of(feeds)
        missing = [name for name in names if name not in shapes]
        if missing:
            raise CalibrationError(
                asked=f"watch tensor {missing[0]!r}",
                found="a runtime that returned no such output",
                fix="hand over a runtime that returns every output of the model, by name",
                details={"missing": missing},
            )
        once = {name: shapes[name] for name in names}
        if fed.model.state or not takes_any_batch(fed.model):
            return once, dict.fromkeys(once)
        try:
            twice = shapes_of({name: np.concatenate([array, array]) for name, array in feeds.items()})
        except EdgeportError:  # a batch that is free by name alone: such a model is called with one sample
            return once, dict.fromkeys(once)
    axes = {name: batch_axis(shape, twice[name]) for name, shape in once.items()}
    if None not in axes.values():
        fed.probed_values = sum(array.size for array in feeds.values())
    return once, axes


def _same(alike: Iterable[Sequence[str]], axes: Mapping[str, int | None]) -> dict[str, str]:
    """Of each tensor the one that is watched for it: of those that have the same values, a single one."""
    found = {}
    for names in alike:
        watched = next((name for name in names if axes[name] in (0, None)), names[0])  # this one can be summed up
        found.update(dict.fromkeys(names, watched))
    return found


def _most_of_a_sample(model: OnnxModel, samples: SampleSet, *, single: bool) -> int:
    """How many of its values are counted; `single` where each call is one sample."""
    if not single:
        return MOST_VALUES
    together = len(samples.whole if isinstance(samples, Shard) else samples)  # the same in each part
    return most_values(-(-together // (model.fixed_batch or 1)))


def _looks(
    model: OnnxModel,
    names: Mapping[str, int],
    once: Mapping[str, tuple[int, ...]],
    axes: Mapping[str, int | None],
    most: int,
) -> dict[str, SummaryConfig]:
    """How the large tensors are summed up where the model runs; `most` values of a sample are counted."""
    fed = {spec.name for spec in model.inputs}
    looks = {}
    for name, value_bytes in names.items():
        values = math.prod(once[name])
        large = values > (min(COUNTED_VALUES, _PICKED * most) if most else WHOLE_VALUES)
        float32 = value_bytes == np.float32().itemsize
        if large and float32 and name not in fed and axes[name] in (0, None):
            looks[name] = SummaryConfig(by_sample=axes[name] == 0, step=every(values, most) if most else 0, most=most)
    return looks


def _calls(
    cut: Callable[[int], tuple[int, list[list[str]]]], at_once: int, *, single: bool, fixed: bool
) -> tuple[int, list[list[str]], int]:
    """Samples in a call, groups of tensors, and calls on their way at the same time.

    Args:
        cut: `_cut`, which is still to be told the bytes of a group.
        at_once: Calls at the same time, at most.
        single: Each call is one sample, or the fixed batch.
        fixed: It is the fixed batch.

    """
    if at_once > 1:
        rows, groups = cut(FETCH_BYTES // (at_once + 1))  # one is looked at meanwhile
        if fixed or ((single or rows == 1) and len(groups) == 1):
            return 1, groups, at_once
    rows, groups = cut(FETCH_BYTES)
    return 1 if single else rows, groups, 1


def _cut(
    names: Mapping[str, int],
    once: Mapping[str, tuple[int, ...]],
    looks: Mapping[str, SummaryConfig],
    most: int,
    *,
    fed: Collection[str],
) -> tuple[int, list[list[str]]]:
    """Smallest batches per call that keep to SLICE_BYTES, and groups of tensors that keep to a number of bytes.

    Args:
        names: Bytes of a value, by tensor.
        once: Shapes for the smallest batch.
        looks: Of those that are not returned.
        most: Bytes of a group, for the smallest batch.
        fed: Tensors that nobody need return.

    """
    groups: list[list[str]] = [[]]
    held = largest = inside = 0
    for name, value_bytes in names.items():
        size = 0 if name in fed else math.prod(once[name]) * value_bytes
        if name in looks:
            inside = max(inside, _LIVE * size)
            size = size // looks[name].step if looks[name].step else 0
        if groups[-1] and held + size > most:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
        largest = max(largest, held)
    return max(1, SLICE_BYTES // max(largest + inside, 1)), groups


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
