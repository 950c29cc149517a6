"""Runs the samples through the model once and watches every activation on the way.

The model gets its activations as outputs, in a temporary copy; the runtime is handed over by the caller. What is kept
is one observer state per tensor, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import contextlib
import difflib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeport.calibration.data.rebatch import rebatch, rows_of
from edgeport.calibration.graph import activations, infer_types
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
from edgeport.errors import CalibrationError
from edgeport.onnx_files import read_ir, refuse_quantized

__all__ = ["collect", "watchable"]

SLICE_BYTES = 64 << 20
"""Activations that one call returns: a larger batch is cut. Fresh pages for every call cost more than small calls."""

FETCH_BYTES = 1 << 30
"""Activations of the smallest batch. Where there are more, they are fetched in groups, each in a walk of its own."""

_EXTERNAL_ABOVE_BYTES = 1536 << 20

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
        CalibrationError: No samples, an unknown tensor, or one that was never computed or never finite.

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

    def walk(run: RunModel, group: Sequence[str], rows: int, *, before: int, total: int) -> None:
        done = before
        for sample in batches:
            for arrays in fed.arrays(run, sample, rows):
                _update({name: watched[name] for name in group}, arrays)
            done = min(done + len(sample), before + count)  # what fills up the last group is not counted
            on_progress(ProgressEvent(stage="calibrate", message=f"{len(names)} tensors", done=done, total=total))

    with tempfile.TemporaryDirectory(prefix="edgeport-calibrate-") as folder:
        with _opened(model, names, open_model, Path(folder)) as run:
            sizes, values = _probe(fed, batches, run, names)
            rows, groups = _cut(sizes)
            fed.probed_values = values
            if len(groups) == 1:
                walk(run, names, rows, before=0, total=count)
        if len(groups) > 1:
            for index, group in enumerate(groups):
                with _opened(model, group, open_model, Path(folder)) as run:
                    walk(run, group, rows, before=index * count, total=count * len(groups))
    statistics = {name: {key: observer.state() for key, observer in watched[name].items()} for name in names}
    _check(statistics)
    return Calibration(
        model_digest=model.digest, samples_fingerprint=samples.fingerprint, sample_count=count, statistics=statistics
    )


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


@contextlib.contextmanager
def _opened(model: OnnxModel, names: Sequence[str], open_model: OpenModel, folder: Path) -> Iterator[RunModel]:
    """The model with `names` among its outputs, opened by the handed runtime."""
    ir_model = read_ir(model)
    infer_types(ir_model)
    wanted = set(names)
    for value in activations(ir_model.graph):
        # What is fed is known without asking the runtime to copy it.
        if value.name in wanted and not value.is_graph_output() and not value.is_graph_input():
            ir_model.graph.outputs.append(value)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / model.path.name  # as errors name it
        # Not by write_ir: that checks what it wrote, and a tensor whose rank nobody knows is no output to be shipped.
        ir.save(ir_model, path, external_data="observed.data" if _is_large(ir_model) else None)
        del ir_model
        with open_model(path) as run:
            yield run


def _is_large(ir_model: ir.Model) -> bool:
    """Too large for one protobuf file, which ends at 2 GiB."""
    weights = (value.const_value for value in ir_model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in weights if tensor is not None) > _EXTERNAL_ABOVE_BYTES


class _Fed:
    """How a model is fed: in parts of a batch, or step by step with its own state.

    Attributes:
        probed_values: Values in the sample by which the number of rows in a call was chosen; longer ones come fewer at
            once. 0 where it is not known.

    """

    def __init__(self, model: OnnxModel, initial: dict[str, Array]) -> None:
        self.model = model
        self.initial = initial
        self.probed_values = 0
        self._held: dict[str, Array] = dict(initial)

    def arrays(self, run: RunModel, sample: Sample, rows: int) -> Iterator[Arrays]:
        """Feeds and outputs of each call over a batch; calls are of at most `rows` samples."""
        if not self.model.state:
            for feeds in self._slices(sample, rows):
                yield {**feeds, **run(feeds)}
            return
        for step in rows_of(sample):
            if step.first is not None and step.first[0]:
                self._held = dict(self.initial)
            feeds = {**step.feeds, **self._held}
            outputs = run(feeds)
            self._held = {into: outputs[out] for out, into in self.model.state.items()}
            yield {**feeds, **outputs}

    def smallest(self, sample: Sample) -> dict[str, Array]:
        """Feeds of the smallest call: one sample, or the fixed batch."""
        one = next(rows_of(sample)) if self.model.state or _takes_any_batch(self.model) else sample
        return {**one.feeds, **self.initial}

    def _slices(self, sample: Sample, rows: int) -> Iterator[Arrays]:
        if self.probed_values:
            values = sum(array.size for array in sample.feeds.values()) // len(sample)
            rows = max(1, rows * self.probed_values // max(values, 1))
        if len(sample) <= rows or not _takes_any_batch(self.model):
            yield sample.feeds
            return
        for start in range(0, len(sample), rows):
            yield {name: array[start : start + rows] for name, array in sample.feeds.items()}


def _probe(fed: _Fed, samples: SampleSet, run: RunModel, names: Sequence[str]) -> tuple[dict[str, int], int]:
    """Bytes that fetching each tensor takes for the smallest batch of the model, and the values of its feeds.

    The batch is one sample, or the model's fixed one.
    """
    feeds = fed.smallest(next(iter(samples)))
    arrays = {**feeds, **run(feeds)}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CalibrationError(
            asked=f"watch tensor {missing[0]!r}",
            found="a runtime that returned no such output",
            fix="hand over a runtime that returns every output of the model, by name",
            details={"missing": missing},
        )
    values = sum(array.size for name, array in feeds.items() if name not in fed.initial)
    return {name: 0 if name in feeds else arrays[name].nbytes for name in names}, values


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


def _update(watched: _Watched, arrays: Arrays) -> None:
    for name, observers in watched.items():
        for observer in observers.values():
            observer.update(arrays[name])


def _check(statistics: Mapping[str, TensorStatistics]) -> None:
    """No tensor was empty or not finite all the time."""
    for name, observers in statistics.items():
        extremes = observers.get("extremes")
        if extremes is None:
            continue
        count, nonfinite = int(extremes["count"]), int(extremes["nonfinite"])
        if count == nonfinite:
            found = f"NaN or Inf in all of its {count} values" if count else "no values: it was empty in every sample"
            raise CalibrationError(
                asked=f"calibrate tensor {name!r}",
                found=found,
                fix="run the float model on these samples and see where it goes wrong, or give other samples",
                details={"tensor": name},
            )
