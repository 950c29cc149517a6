"""The metrics, by name: higher is better in every one, so that a drop is always a loss.

Errors (`mae`, `mse`, `eer`) are negated for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.accuracy.agreement import agreement
from edgeport.accuracy.detection import map50
from edgeport.accuracy.ranking import auc, eer
from edgeport.contracts.samples import Array, Arrays
from edgeport.errors import SamplesError, SourceError, UsageError, did_you_mean
from edgeport.user_functions import load_function

__all__ = [
    "METRICS",
    "SQNR_CEILING_DB",
    "Evaluation",
    "Measured",
    "Metric",
    "Truth",
    "evaluate",
    "imported",
    "is_one_hot",
    "judged_output",
    "metric_named",
]

Weighted = Callable[[Array], float]
"""The metric over weighted samples: weights [N] to one number, NaN where they leave nothing to compute it of."""

Measured = Array | float | Weighted
"""Scores [N]; or one number, or a function of weights that gives it, where samples have no scores of their own."""

SQNR_CEILING_DB = 150.0
"""float32 carries 24 bits of mantissa, 6.02 dB each: what is closer than this is equal."""


class Truth(StrEnum):
    """What outputs are compared with."""

    LABELS = "labels"
    REFERENCE = "reference"
    """The outputs of the float model."""
    EITHER = "either"
    """The labels where there are some, else the outputs of the float model."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: As recipes and tables have it.
        truth: What it compares with.
        measure: Output [N, ...] and truth [N, ...] to what `Measured` says; higher is better. Scores of type bool
            are right and wrong answers.
        proportion: Scores are right and wrong answers, for agreement only where outputs are class scores.
        unit: For tables; empty for a plain number.

    """

    name: str
    truth: Truth
    measure: Callable[[Array, Array], Measured]
    proportion: bool = False
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A metric over a sample set.

    Attributes:
        value: Over the whole set.
        scores: float64 [N], whose mean is `value`; None where the metric has no scores per sample.
        right_or_wrong: Each score is 1 or 0, for a right and a wrong answer.
        weighted: The metric over weighted samples, where it has no scores but this.

    """

    value: float
    scores: Array | None
    right_or_wrong: bool = False
    weighted: Weighted | None = None


def evaluate(metric: Metric, outputs: Arrays, target: Array, *, output: str = "") -> Evaluation:
    """The metric of `outputs` (arrays [N, ...] by output name) against `target` [N, ...].

    Args:
        metric: See `metric_named`.
        outputs: Of the model.
        target: The labels, or the float model's output, whichever the metric compares with.
        output: Name of the output that is judged; empty for the first.

    Raises:
        SamplesError: Outputs and target do not fit each other or the metric.

    """
    judged = judged_output(outputs, output)
    target = np.asarray(target)
    if judged.ndim == 0 or target.ndim == 0 or len(judged) != len(target) or len(judged) == 0:
        raise SamplesError(
            asked=f"compute {metric.name}",
            found=f"outputs of shape {list(judged.shape)} and a target of shape {list(target.shape)}",
            fix="give one target per sample, and at least one sample",
        )
    measured = metric.measure(judged, target)
    if callable(measured):
        return Evaluation(value=measured(np.ones(len(judged))), scores=None, weighted=measured)
    if np.ndim(measured) == 0:
        return Evaluation(value=float(measured), scores=None)
    scores = np.asarray(measured, np.float64)
    if scores.shape != (len(judged),):
        raise SamplesError(
            asked=f"compute {metric.name}",
            found=f"scores of shape {list(scores.shape)} for {len(judged)} samples",
            fix="return one number per sample, or a single number",
        )
    right_or_wrong = np.asarray(measured).dtype == np.bool_
    return Evaluation(value=float(scores.mean()), scores=scores, right_or_wrong=right_or_wrong)


def judged_output(outputs: Arrays, name: str = "") -> Array:
    """The output called `name`, or the first one.

    Raises:
        SamplesError: There is no such output.

    """
    if not outputs or (name and name not in outputs):
        known = ", ".join(repr(key) for key in outputs) or "none"
        raise SamplesError(
            asked=f"judge output {name!r}" if name else "judge an output",
            found=f"these outputs: {known}",
            fix="name one of them in [data] output",
        )
    judged = np.asarray(outputs[name or next(iter(outputs))])
    # bfloat16 and its like are strangers to numpy, which does not count them among its numbers.
    return judged.astype(np.float32) if judged.dtype.kind == "V" else judged


def metric_named(name: str, *, search_path: Path | None = None) -> Metric:
    """The metric of that name, or the user's own function `pkg.mod:fn(output, target)`.

    Such a function takes the judged output [N, ...] and the target [N, ...], and returns scores [N] or one number,
    higher is better. Scores of dtype bool are counted as right and wrong.

    Args:
        name: See `METRICS`.
        search_path: Folder that is put on the import path while the function is imported.

    Raises:
        UsageError: No such metric.
        SourceError: The function does not import.

    """
    if name in METRICS:
        return METRICS[name]
    if ":" not in name:
        raise UsageError(
            asked=f"judge by metric {name!r}",
            found=f"no such metric; there are {', '.join(METRICS)}",
            fix=did_you_mean(name, METRICS, "use one of them, or pkg.mod:function"),
        )
    return Metric(name=name, truth=Truth.EITHER, measure=imported(name, search_path, "metric"))


def imported(location: str, search_path: Path | None, what: str) -> Callable[..., Any]:
    """The user's function `pkg.mod:fn`.

    Args:
        location: Its module and name.
        search_path: Folder that is put on the import path while it is imported.
        what: What it is, for messages.

    Raises:
        SourceError: It does not import, or is no function.

    """

    def refuse(found: str, fix: str) -> SourceError:
        return SourceError(asked=f"import the {what} {location}", found=found, fix=fix)

    module = "check the module's name, and that it lies beside the recipe or is installed"
    fixes = module, f"name a function of ({'output, target' if what == 'metric' else 'outputs'})"
    return load_function(location, search_path, refuse=refuse, fixes=fixes)


def _classes(output: Array, metric: str) -> Array:
    if output.ndim != 2 or output.shape[1] < 2:
        raise SamplesError(
            asked=f"compute {metric}",
            found=f"an output of shape {list(output.shape)}, where [samples, classes] is needed",
            fix='use a metric such as "cosine" or "mae", name another output, or give a function pkg.mod:fn',
        )
    return output


def is_one_hot(labels: Array) -> bool:
    """One 1 among zeros for each sample: labels [N, classes] of any dtype."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf":
        return False
    ones = labels == 1
    return bool((ones.sum(axis=1) == 1).all() and (ones | (labels == 0)).all())


def _labels(target: Array, classes: int, metric: str) -> Array:
    if target.shape[1:] == (classes,) and is_one_hot(target):
        return np.asarray(target.argmax(axis=1), np.int64)
    labels = target.reshape(len(target), -1)
    numeric = np.issubdtype(labels.dtype, np.number) and labels.shape[1] == 1
    if not numeric or labels.min() < 0 or labels.max() >= classes or not np.array_equal(labels, np.trunc(labels)):
        span = f" from {labels.min()} to {labels.max()}" if numeric else ""
        raise SamplesError(
            asked=f"compute {metric} over {classes} classes",
            found=f"labels of shape {list(target.shape)} and dtype {target.dtype}{span}",
            fix=f"give one class index per sample, 0 to {classes - 1}, or one-hot rows of {classes}",
        )
    return labels[:, 0].astype(np.int64)


def _top(count: int) -> Callable[[Array, Array], Array]:
    def top(output: Array, target: Array) -> Array:
        metric = f"top{count}"
        scores = _classes(output, metric)
        labels = _labels(target, scores.shape[1], metric)
        # A tie counts against the model: the label must beat all but `count - 1` of the others. NaN never beats.
        own = scores[np.arange(len(scores)), labels][:, None]
        not_beaten = np.sum(~(own > scores), axis=1) - 1
        return np.asarray((not_beaten < count) & ~np.isnan(own[:, 0]))

    return top


def _pairs(output: Array, truth: Array, metric: str) -> tuple[Array, Array]:
    """Both as float64 [N, values]."""
    count = len(output)
    axes = [[size for size in array.shape[1:] if size != 1] for array in (output, truth)]
    # A flat target has the output's order; equal sizes in another order would compare the wrong values.
    moved = axes[0] != axes[1] and min(map(len, axes)) > 1
    if output.size != truth.size or moved:
        raise SamplesError(
            asked=f"compute {metric}",
            found=f"an output of shape {list(output.shape)} and a target of shape {list(truth.shape)}",
            fix="give a target of the output's shape",
        )
    return output.reshape(count, -1).astype(np.float64), truth.reshape(count, -1).astype(np.float64)


def _mae(output: Array, truth: Array) -> Array:
    ours, theirs = _pairs(output, truth, "mae")
    return np.asarray(-np.abs(ours - theirs).mean(axis=1))


def _mse(output: Array, truth: Array) -> Array:
    ours, theirs = _pairs(output, truth, "mse")
    return np.asarray(-np.square(ours - theirs).mean(axis=1))


def _cosine(output: Array, truth: Array) -> Array:
    ours, theirs = _pairs(output, truth, "cosine")
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    both_zero = ~ours.any(axis=1) & ~theirs.any(axis=1)
    products = np.sum(ours * theirs, axis=1)
    return np.where(both_zero, 1.0, np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))


def _sqnr(output: Array, truth: Array) -> Array:
    ours, theirs = _pairs(output, truth, "sqnr")
    signal, noise = np.square(theirs).sum(axis=1), np.square(ours - theirs).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(signal / noise)
    return np.clip(np.where(noise == 0, SQNR_CEILING_DB, ratio), -SQNR_CEILING_DB, SQNR_CEILING_DB)


def _single(output: Array, truth: Array, metric: str) -> tuple[Array, Array]:
    ours, theirs = _pairs(output, truth, metric)
    if ours.shape[1] != 1 or len(ours) < 3:
        raise SamplesError(
            asked=f"compute {metric}",
            found=f"{len(ours)} samples with {ours.shape[1]} values each",
            fix="give at least 3 samples, and an output of one number per sample",
        )
    return ours[:, 0], theirs[:, 0]


def _correlation(ours: Array, theirs: Array) -> float:
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    scale = float(np.sqrt(np.square(ours).sum() * np.square(theirs).sum()))
    # A constant output orders nothing, so it is worth nothing.
    return float((ours * theirs).sum()) / scale if scale > 0 else 0.0


def _pearson(output: Array, truth: Array) -> float:
    return _correlation(*_single(output, truth, "pearson"))


def _spearman(output: Array, truth: Array) -> float:
    ours, theirs = _single(output, truth, "spearman")
    return _correlation(_ranks(ours), _ranks(theirs))


def _ranks(values: Array) -> Array:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse])


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="top1", truth=Truth.LABELS, measure=_top(1), proportion=True),
        Metric(name="top5", truth=Truth.LABELS, measure=_top(5), proportion=True),
        Metric(name="agreement", truth=Truth.REFERENCE, measure=agreement, proportion=True),
        Metric(name="mae", truth=Truth.EITHER, measure=_mae),
        Metric(name="mse", truth=Truth.EITHER, measure=_mse),
        Metric(name="cosine", truth=Truth.EITHER, measure=_cosine),
        Metric(name="sqnr", truth=Truth.EITHER, measure=_sqnr, unit="dB"),
        Metric(name="spearman", truth=Truth.EITHER, measure=_spearman),
        Metric(name="pearson", truth=Truth.EITHER, measure=_pearson),
        Metric(name="auc", truth=Truth.LABELS, measure=auc),
        Metric(name="eer", truth=Truth.LABELS, measure=eer),
        Metric(name="map50", truth=Truth.EITHER, measure=map50),
    )
}
