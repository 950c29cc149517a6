"""PyTorch against the exported model on real samples: errors, SQNR, and the metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeport.contracts import Array, Arrays, OpenModel, Outcome, OutputDifference, RunModel, Verification
from edgeport.errors import EdgeportError, SamplesError, VerificationError, WrongOutput
from edgeport.exporter.dynamic_shape_check import AtSize
from edgeport.exporter.nan_origin import first_divergent_node
from edgeport.ragged import RaggedBatch, run_rows

__all__ = ["DEFAULT_TOLERANCE", "Judge", "compare_outputs", "verify"]

DEFAULT_TOLERANCE = 1e-3
"""Relative to the largest output. Float32 in another order of sums differs by 1e-6 to 1e-4 in deep networks."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The metric that is computed for PyTorch and for the exported model.

    Attributes:
        name: For reports.
        measure: Outputs by name, axis 0 counts samples, and the targets, to one number.
        target: What the outputs are compared with, axis 0 counts samples.

    """

    name: str
    measure: Callable[[Arrays, Array], float]
    target: Array


def compare_outputs(reference: Arrays, actual: Arrays) -> tuple[OutputDifference, ...]:
    """Largest and mean absolute error and SQNR of each output.

    Args:
        reference: Arrays by output name, as PyTorch computed them.
        actual: The same names and shapes, as a runtime did.

    Returns:
        One difference per output, in the order of the reference.

    Raises:
        VerificationError: Other names or shapes.
        WrongOutput: NaN or Inf where the reference has none; names the first such output.

    """
    if list(reference) != list(actual) and set(reference) != set(actual):
        raise VerificationError(
            asked=f"compare the outputs {', '.join(reference)}",
            found=f"the outputs {', '.join(actual)}",
            fix="export again; the file and the reference are of different models",
        )
    return tuple(_difference(name, np.asarray(value), np.asarray(actual[name])) for name, value in reference.items())


def _difference(name: str, reference: Array, actual: Array) -> OutputDifference:
    if reference.shape != actual.shape:
        raise VerificationError(
            asked=f"compare output {name!r} of shape {reference.shape}",
            found=f"shape {actual.shape}",
            fix="export again with the batch left free",
        )
    expected, found = reference.astype(np.float64), actual.astype(np.float64)
    broken = ~np.isfinite(found) & (np.isfinite(expected) | (np.isnan(found) != np.isnan(expected)))
    if broken.any():
        where = tuple(int(index) for index in np.argwhere(broken)[0])
        raise WrongOutput(
            asked=f"compare output {name!r} with PyTorch",
            found=f"{found[where]} at {list(where)} ({int(broken.sum())} of {broken.size} values) where PyTorch has "
            f"{expected[where]:.6g}",
            fix="look at the node named below, if any; else try another opset",
            details={"output": name, "index": list(where), "count": int(broken.sum())},
        )
    # Where both are the same infinity or NaN (masks), there is no difference.
    finite = np.isfinite(expected) & np.isfinite(found)
    signal = np.where(finite, expected, 0.0)
    error = signal - np.where(finite, found, 0.0)
    differs_in_sign = np.isinf(expected) & np.isinf(found) & (expected != found)
    noise = math.inf if differs_in_sign.any() else float(np.sum(error**2))
    return OutputDifference(
        name=name,
        max_abs=math.inf if differs_in_sign.any() else float(np.max(np.abs(error), initial=0.0)),
        mean_abs=math.inf if differs_in_sign.any() else float(np.mean(np.abs(error))) if error.size else 0.0,
        sqnr_db=_sqnr_db(float(np.sum(signal**2)), noise),
    )


def _sqnr_db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 or math.isinf(noise) else 10 * math.log10(signal / noise)


def verify(  # noqa: PLR0913 (the four things compared, and how)
    reference_outputs: Arrays,
    feeds: Arrays,
    model_path: Path,
    open_model: OpenModel,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    batch_sizes: Sequence[int] = (2, 1),
    judge: Judge | None = None,
    state: Mapping[str, str] | None = None,
    starts: Sequence[int] = (0,),
    sizes: Sequence[AtSize] = (),
    of_sizes: Path | None = None,
) -> Verification:
    """Runs the exported model on every sample, once per batch size, and compares it with PyTorch.

    Args:
        reference_outputs: What PyTorch computed (`reference_outputs` in input_binding.py); axis 0 counts samples.
        feeds: Arrays by input name; axis 0 counts samples. See `edgeport.ragged` for samples of several shapes, and for
            what a state begins with.
        model_path: The ONNX file.
        open_model: Opens it in some runtime.
        tolerance: Largest absolute difference that passes, relative to the largest absolute value of that output.
        batch_sizes: Samples per call. Two different ones show that the batch is really free; a model with a fixed
            batch takes that one alone.
        judge: A metric that is computed for both, where given.
        state: Output to the input that it feeds on the next call; then each call takes one sample.
        starts: Samples at which a sequence begins.
        sizes: More of PyTorch's runs, at other sizes of the free axes.
        of_sizes: The ONNX file that takes their feeds, where preprocessing was folded into `model_path` since.

    Returns:
        The worst difference over the batch sizes per output; FAIL where one is beyond the tolerance.

    Raises:
        VerificationError: Other output names or shapes than PyTorch's.
        WrongOutput: NaN or Inf that PyTorch has not; names the first node whose output has it.
        SamplesError: No samples, or fewer than the largest batch.

    """
    rows = RaggedBatch.of(feeds, tuple((state or {}).values()))
    count = len(rows)
    batch_sizes = (1,) if state else batch_sizes
    if count < max(batch_sizes, default=1) or count < 1 or min(batch_sizes, default=0) < 1:
        raise SamplesError(
            asked=f"verify with batches of {', '.join(map(str, batch_sizes)) or 'nothing'}",
            found=f"{count} samples",
            fix="give at least one sample, and as many as the largest batch",
        )
    differences: list[tuple[OutputDifference, ...]] = []
    outputs: dict[str, Array] = {}
    with open_model(model_path) as run:
        for size in dict.fromkeys(batch_sizes):
            if state or rows.shapes:
                outputs = run_rows(run, rows, batch=size, state=state or {}, starts=starts)
            else:
                outputs = _run_all(run, feeds, count, size, reference_outputs)
            wanted = {name: array for name, array in reference_outputs.items() if name in outputs or size == 1}
            try:
                differences.append(compare_outputs(wanted, outputs))
            except WrongOutput as error:
                _name_node(error, rows, size, model_path, open_model)
                raise
    if sizes:
        with open_model(of_sizes or model_path) as run:
            _compare_sizes(run, sizes, tolerance)
    by_name = {name: [each for one in differences for each in one if each.name == name] for name in reference_outputs}
    worst = tuple(max(each, key=lambda difference: difference.max_abs) for each in by_name.values() if each)
    within = all(each.max_abs <= tolerance * _largest(reference_outputs[each.name]) for each in worst)
    return Verification(
        outputs=worst,
        samples=count,
        batch_sizes=tuple(dict.fromkeys(batch_sizes)),
        metric=judge.name if judge else "",
        pytorch=judge.measure(reference_outputs, judge.target) if judge else None,
        onnx=judge.measure(outputs, judge.target) if judge else None,
        tolerance=tolerance,
        outcome=Outcome.PASS if within else Outcome.FAIL,
        sizes={axis: tuple(one.size for one in sizes if one.axis == axis) for axis in {one.axis: 0 for one in sizes}},
    )


def _compare_sizes(run: RunModel, sizes: Sequence[AtSize], tolerance: float) -> None:
    """The file computes what PyTorch does at other sizes too.

    Raises:
        VerificationError: It does not, or fails there: the axis and the size are named.

    """
    for one in sizes:
        asked = f"run the exported model with {one.axis} {one.size}"
        fix = f"fix that axis (a number in the shape), or declare a smaller range ([axes.{one.axis}] range in a recipe)"
        try:
            differences = compare_outputs(one.outputs, run(one.feeds))
        except EdgeportError as error:
            raise VerificationError(asked=asked, found=error.found, fix=fix, details=error.details) from error
        for each in differences:
            if each.max_abs > tolerance * _largest(one.outputs[each.name]):
                raise VerificationError(
                    asked=asked, found=f"output {each.name} off by {each.max_abs:.3g} from PyTorch's", fix=fix
                )


def _largest(reference: Array) -> float:
    """Largest finite absolute value; 1 for an output of zeros, so that the tolerance means something."""
    values = np.abs(np.asarray(reference, np.float64))
    finite = values[np.isfinite(values)]
    return float(finite.max(initial=0.0)) or 1.0


def _run_all(run: RunModel, feeds: Arrays, count: int, size: int, reference: Arrays) -> dict[str, Array]:
    """Every sample in calls of exactly `size`; the last call overlaps the one before, so none is left out."""
    gathered: dict[str, Array] = {}
    starts = [*range(0, count - size, size), count - size]
    for start in starts:
        for name, value in run({key: array[start : start + size] for key, array in feeds.items()}).items():
            if value.ndim == 0 and size > 1 and name in reference:
                continue  # one number for the whole batch: compared where a batch is one sample
            value = value.reshape(1) if value.ndim == 0 else value  # noqa: PLW2901 (the same number)
            if len(value) != size:
                raise VerificationError(
                    asked=f"run a batch of {size}",
                    found=f"shape {value.shape} of output {name!r}",
                    fix="export with the batch left free (dynamic_batch=True), or verify with the fixed batch only",
                )
            whole = gathered.setdefault(name, np.empty((count, *value.shape[1:]), value.dtype))
            if whole.shape[1:] != value.shape[1:]:
                raise VerificationError(
                    asked=f"gather output {name!r}",
                    found=f"shapes {whole.shape[1:]} and {value.shape[1:]} per sample",
                    fix="verify models whose output shapes depend on the data one sample at a time",
                )
            whole[start : start + size] = value
    return {name: gathered[name] for name in reference if name in gathered} | gathered


def _name_node(error: WrongOutput, rows: RaggedBatch, size: int, model_path: Path, open_model: OpenModel) -> None:
    index = error.details.get("index")
    start = index[0] if isinstance(index, list) and index else 0
    start = min(start, len(rows) - size)
    stop = start + (1 if rows.shapes or rows.state else size)
    node = first_divergent_node(model_path, open_model, {**rows.cut(start, stop), **rows.state})
    if node is None:
        error.fix = "no node by itself gives such a value, so a fused one does: try another opset or runtime"
        return
    error.details |= {"node": node.name, "operator": node.operator, "module": node.module}
    error.found += f"; the first node that gives such a value from finite inputs is {node}"
    error.fix = "check the inputs' range there, or keep that module in a wider type"
