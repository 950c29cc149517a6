"""Judges outputs in a child: the metric may be the user's own code, and the arrays as large as the evaluation set."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from edgeport.accuracy import Metric, accuracy_result, metric_named
from edgeport.accuracy.metrics import SQNR_CEILING_DB, Measured, imported
from edgeport.contracts import AccuracyResult, Array, Arrays, Outcome
from edgeport.contracts.request import ByContent
from edgeport.errors import EdgeportError, SamplesError, SourceError
from edgeport.ragged import SHAPE, RaggedBatch

__all__ = ["DECODED", "JudgeRequest", "decoder_from", "judge", "metric_from", "of_one_shape"]

DECODED = "decoded"
"""Name of what `[data] decode` makes of the outputs."""

_ROWS_BYTES = 16 << 20
"""Of an output that is compared at once: float64 copies of all of it would take several times its size."""

_FRAMES = 3


@dataclass(frozen=True, kw_only=True)
class JudgeRequest:
    """What outputs are judged by.

    Attributes:
        subject: Digest of the artifact that gave the outputs, or "reference": each is judged by itself, so that a run
            that finds nothing in the store counts nothing as reused.
        outputs, reference: `.npz`, one array [N, ...] by output name.
        target: `.npy` with the labels; None where there are none.
        metric: Name, or a function of the user.
        output: That the metric sees; empty for the first.
        decode: Function from all outputs to what is judged; empty where there is none.
        search_path: Folder on the import path while the user's functions are imported.
        allowed_drop: Of the accuracy.
        reference_name: For tables.
        starts: Indices of samples at which a sequence begins.

    """

    subject: str = "reference"
    outputs: Annotated[Path, ByContent]
    reference: Annotated[Path, ByContent]
    target: Annotated[Path | None, ByContent]
    metric: str
    output: str
    decode: str
    search_path: Path | None
    allowed_drop: float
    reference_name: str
    starts: tuple[int, ...] = ()


def judge(request: JudgeRequest, folder: Path) -> AccuracyResult:
    """Judges a candidate's outputs.

    The metric sees one output, or what `decode` makes of all of them. The others must hold NaN and Inf only where the
    reference has them too; how close they are is noted as `sqnr_db:NAME` in the details.

    Raises:
        SamplesError, SourceError, WrongOutput: As `accuracy_result` and `metric_from`.

    """
    del folder
    metric, decode = metric_from(request.metric, request.search_path), decoder_from(request.decode, request.search_path)
    with (
        np.load(request.outputs, allow_pickle=False) as ours,
        np.load(request.reference, allow_pickle=False) as its,
    ):
        name = DECODED if decode else request.output or its.files[0]
        target = request.target
        judged = _judged(its, name, decode)
        accuracy = accuracy_result(
            of_one_shape(metric, its if decode is None else judged, name, target),
            _judged(ours, name, decode),
            judged,
            None if target is None else np.load(target, allow_pickle=False),
            allowed_drop=request.allowed_drop,
            reference_name=request.reference_name,
            output=name,
            starts=request.starts,
        )
        return _with_other_outputs(accuracy, name, ours, its)


def of_one_shape(metric: Metric, outputs: Mapping[str, Array], name: str, target: Path | None) -> Metric:
    """The metric, handed samples of one shape at a time where those of the output or the labels differ in shape.

    Args:
        metric: As named.
        outputs: Of the reference; see `edgeport.ragged`.
        name: Of the output that is judged.
        target: `.npy` with the labels, whose shapes lie beside it where they differ.

    """
    shapes = outputs.get(f"{name}{SHAPE}")
    beside = None if target is None else target.with_name("target.shapes.npy")
    of_labels = np.load(beside, allow_pickle=False) if beside is not None and beside.exists() else None
    if shapes is None and of_labels is None:
        return metric

    def measure(output: Array, truth: Array) -> Measured:
        # Without labels the truth is the reference's output, of the output's own shapes.
        own = of_labels if target is not None else shapes
        if own is not None and truth.ndim - 1 != own.shape[1]:
            own = None
        rows = RaggedBatch(
            values={"output": output, "truth": truth},
            shapes={key: each for key, each in (("output", shapes), ("truth", own)) if each is not None},
        )
        scores: list[Array] = []
        for start, stop in rows.runs(len(output)):
            part = rows.cut(start, stop)
            measured = metric.measure(part["output"], part["truth"])
            if callable(measured) or np.shape(measured) != (stop - start,):
                raise SamplesError(
                    asked=f"compute {metric.name} over samples of several shapes",
                    found="one number for many samples, or another number of scores than samples",
                    fix="take a metric with a score for each sample, such as mae, cosine or a function of your own",
                )
            scores.append(np.asarray(measured))
        return np.concatenate(scores)

    return replace(metric, measure=measure)


def _judged(outputs: Mapping[str, Array], name: str, decode: Callable[[Arrays], Array] | None) -> Arrays:
    """The one output that is judged; where it is not there, the others' names."""
    if decode is not None:
        return {name: decode(dict(outputs))}
    return {name: outputs[name]} if name in outputs else dict.fromkeys(outputs, np.zeros(0))


def decoder_from(location: str, search_path: Path | None) -> Callable[[Arrays], Array] | None:
    """The user's function from outputs [N, ...] by name to what is judged, [N, ...]; None where there is none.

    Raises:
        SourceError: It does not import. Raised by the function: it raises, or returns something else.

    """
    if not location:
        return None
    function = imported(location, search_path, "decoder")

    def decode(outputs: Arrays) -> Array:
        asked = f"decode the outputs {', '.join(outputs)} with {location}"
        count = len(next(iter(outputs.values())))
        try:
            decoded = np.asarray(function(outputs))
        except Exception as error:  # the user's code may raise anything
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
            raise SourceError(
                asked=asked,
                found=f"{type(error).__name__}: {error} ({_where(error)})",
                fix=f"correct the function: it is given a dict of arrays by output name ({shapes}) and returns one "
                f"array for all {count} samples",
                details={"traceback": traceback.format_exception(error)[-_FRAMES - 1 :]},
            ) from error
        if decoded.dtype.hasobject or not decoded.ndim or len(decoded) != count:
            raise SourceError(
                asked=asked,
                found=f"an array of shape {list(decoded.shape)} and dtype {decoded.dtype} for {count} samples",
                fix="return one array of numbers with a row per sample; fill rows of fewer boxes up with a score of 0",
            )
        return decoded

    def in_runs(outputs: Arrays) -> Array:
        """Samples of one shape at a time, without their padding."""
        rows = RaggedBatch.of(outputs)
        if not rows.shapes:
            return decode(rows.values)
        parts = [decode(rows.cut(start, stop)) for start, stop in rows.runs(len(rows))]
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise SourceError(
                asked=f"decode outputs whose samples differ in shape with {location}",
                found=f"arrays of shapes {', '.join(str(list(shape)) for shape in sorted(shapes))} for a sample",
                fix="return as many numbers for every sample; fill rows of fewer boxes up with a score of 0",
            )
        return np.concatenate(parts)

    return in_runs


def metric_from(name: str, search_path: Path | None) -> Metric:
    """The metric of that name; a user's own is checked each time it is called.

    Raises:
        SourceError: The user's function does not import. Raised by `measure`: it raises, or returns something else
            than one finite number, or one per sample.

    """
    metric = metric_named(name, search_path=search_path)
    if ":" not in metric.name:
        return metric

    def measure(output: Array, truth: Array) -> Measured:
        return _measured(metric, output, truth)

    return replace(metric, measure=measure)


def _measured(metric: Metric, output: Array, truth: Array) -> Measured:
    asked = f"compute the metric {metric.name} over {len(output)} samples"
    try:
        returned = metric.measure(output, truth)
    except EdgeportError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise SourceError(
            asked=asked,
            found=f"{type(error).__name__}: {error} ({_where(error)})",
            fix=f"correct the function: it is given an output of shape {list(output.shape)} ({output.dtype}) "
            f"and a target of shape {list(truth.shape)} ({truth.dtype})",
            details={"traceback": traceback.format_exception(error)[-_FRAMES - 1 :]},
        ) from error
    try:
        scores = np.asarray(returned, np.float64)
    except (TypeError, ValueError) as error:
        raise SourceError(
            asked=asked,
            found=f"that it returned a {type(returned).__name__}, which is no number",
            fix="return one number per sample, or a single number; higher is better",
        ) from error
    if scores.shape not in ((), (len(output),)):
        raise SourceError(
            asked=asked,
            found=f"scores of shape {list(scores.shape)} for {len(output)} samples",
            fix="return one number per sample, or a single number",
        )
    if not np.isfinite(scores).all():
        one = scores.ndim == 0
        found = f"{scores}" if one else f"{scores[~np.isfinite(scores)][0]} for sample {_first_broken(scores)}"
        raise SourceError(
            asked=asked,
            found=f"that it returned {found}",
            fix="return finite numbers"
            + (", for any choice of the samples too: intervals come from such choices" if one else " for all samples"),
        )
    return returned


def _first_broken(scores: Array) -> int:
    return int(np.flatnonzero(~np.isfinite(scores))[0])


def _where(error: Exception) -> str:
    """The last lines of the user's own code, innermost first."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return "; ".join(
        f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {frame.line}"
        for frame in reversed(frames[-_FRAMES:])
    )


def _with_other_outputs(
    accuracy: AccuracyResult, judged: str, ours: Mapping[str, Array], its: Mapping[str, Array]
) -> AccuracyResult:
    """INVALID where another output than the judged one is missing, or broken where the reference's is not."""
    details = dict(accuracy.details)
    for name in its:
        if name == judged or name.endswith(SHAPE):
            continue
        if name not in ours:
            return _invalid(accuracy, f"there is no output {name!r}")
        compared = _Compared.of(ours[name], its[name])
        if compared.broken:
            reason = (
                f"output {name!r} holds NaN or Inf for {compared.broken} of {accuracy.samples} samples, "
                f"first for sample {compared.first_broken}"
            )
            return _invalid(accuracy, reason)
        if compared.sqnr_db is not None:
            details[f"sqnr_db:{name}"] = compared.sqnr_db
    return replace(accuracy, details=details)


def _invalid(accuracy: AccuracyResult, reason: str) -> AccuracyResult:
    if accuracy.outcome is Outcome.INVALID:  # the judged output is broken too, and that was said
        return accuracy
    return replace(accuracy, outcome=Outcome.INVALID, reason=reason)


class _Compared:
    """An output [N, ...] against the reference's, part by part.

    Attributes:
        broken: Samples that hold NaN or Inf where the reference has something else.
        first_broken: Index of the first of them.
        sqnr_db: Over the values that are finite in the reference; None where that has no meaning.

    """

    def __init__(self) -> None:
        self.broken = self.first_broken = 0
        self.sqnr_db: float | None = None

    @classmethod
    def of(cls, ours: Array, its: Array) -> _Compared:
        """Compares; outputs that are no floats, or of a shape that depends on the data, say nothing."""
        found = cls()
        if its.dtype.kind != "f" or ours.shape != its.shape or not its.ndim:
            return found
        signal = noise = 0.0
        for start, mine, theirs in _parts(ours, its):
            strange = ~np.isfinite(mine) & (mine != theirs) & ~(np.isnan(mine) & np.isnan(theirs))
            samples = np.flatnonzero(strange.any(axis=1))
            if samples.size and not found.broken:
                found.first_broken = start + int(samples[0])
            found.broken += samples.size
            finite = np.isfinite(theirs)
            signal += float(np.square(theirs[finite]).sum())
            with np.errstate(invalid="ignore", over="ignore"):
                noise += float(np.square(mine[finite] - theirs[finite]).sum())
        if noise == 0:
            found.sqnr_db = SQNR_CEILING_DB
        elif signal > 0 and math.isfinite(noise):
            found.sqnr_db = min(10 * math.log10(signal / noise), SQNR_CEILING_DB)
        return found


def _parts(ours: Array, its: Array) -> Iterator[tuple[int, Array, Array]]:
    """Index of the first sample, and both as float64 [n, values]."""
    count = len(its)
    rows = max(1, _ROWS_BYTES * count // max(8 * its.size, 1))
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        yield (
            start,
            ours[part].reshape(part.stop - start, -1).astype(np.float64),
            its[part].reshape(part.stop - start, -1).astype(np.float64),
        )
