"""Metrics of the order of scores: the area under the ROC curve and the equal error rate, also of verification.

Each measure takes outputs and labels and gives a function of the samples' weights, [N] to one number. A bootstrap is
weights too (how often each sample was drawn), so the scores are sorted once, and not for each of thousands of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeport.contracts.samples import Array
from edgeport.errors import SamplesError

__all__ = ["auc", "eer"]


def auc(output: Array, target: Array) -> Callable[[Array], float]:
    """The area under the ROC curve: how likely a positive scores above a negative, ties half.

    Args:
        output: Scores [N] or [N, 1], larger for positives; class scores [N, 2], whose second class is the positive
            one; or embeddings [N, D], D of 3 or more.
        target: 0 or 1 per sample; for embeddings whose sample it is (a speaker, a person), a number. Each pair of
            samples is then scored by its cosine, and positive where both are of the same.

    Returns:
        Weights [N] to the area, 0..1; NaN where one of the two kinds has no weight.

    Raises:
        SamplesError: Labels or outputs of another form; or only positives, or only negatives.

    """
    scored = _scored(output, target, "auc")

    def area(weights: Array) -> float:
        false, true = scored.curve(weights)
        return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))

    return area


def eer(output: Array, target: Array) -> Callable[[Array], float]:
    """Minus the equal error rate: where as many positives are missed as negatives are let in.

    Args and errors are those of `auc`. Between two points of the ROC curve it is interpolated linearly.

    Returns:
        Weights [N] to minus the rate, -1..0; NaN where one of the two kinds has no weight.

    """
    scored = _scored(output, target, "eer")

    def rate(weights: Array) -> float:
        false, true = scored.curve(weights)
        excess = (1 - true) - false  # from 1 down to -1
        if not np.isfinite(excess).all():
            return float("nan")
        after = int(np.argmax(excess <= 0))
        before = after - 1
        part = excess[before] / (excess[before] - excess[after])
        return -float(false[before] + part * (false[after] - false[before]))

    return rate


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """Scores in falling order.

    Attributes:
        first, second: Indices of the samples that each score is about; no second where it is about one.
        positive: Of each score.
        ends: Index of the last of each group of equal scores.

    """

    first: Array
    second: Array | None
    positive: Array
    ends: Array

    @classmethod
    def of(cls, scores: Array, positive: Array, first: Array, second: Array | None = None) -> _Scored:
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        second = None if second is None else second[order]
        return cls(first=first[order], second=second, positive=positive[order], ends=ends)

    def curve(self, weights: Array) -> tuple[Array, Array]:
        """Shares of negatives and of positives at or above each score, both from 0 to 1."""
        weights = np.asarray(weights, np.float64)
        each = weights[self.first]
        if self.second is not None:
            each = each * weights[self.second]
        with np.errstate(invalid="ignore"):
            false, true = (
                np.concatenate([[0.0], np.cumsum(each * kind)[self.ends]]) / np.sum(each * kind)
                for kind in (~self.positive, self.positive)
            )
        return false, true


def _scored(output: Array, target: Array, metric: str) -> _Scored:
    count = len(output)
    values = output.reshape(count, -1).astype(np.float64)
    labels = target.reshape(len(target), -1)
    if labels.shape[1] != 1 or labels.dtype.kind not in "iufb" or not np.array_equal(labels, np.trunc(labels)):
        raise SamplesError(
            asked=f"compute {metric}",
            found=f"labels of shape {list(target.shape)} and dtype {target.dtype}",
            fix="give one whole number per sample: 0 or 1, or for embeddings whose sample it is",
        )
    own = labels[:, 0]
    if values.shape[1] > 2:
        return _pairs(values, own, metric)
    if not np.isin(own, (0, 1)).all():
        raise SamplesError(
            asked=f"compute {metric} of scores of shape {list(output.shape)}",
            found=f"labels from {own.min():g} to {own.max():g}",
            fix="give 0 (negative) or 1 (positive) per sample",
        )
    positive = own == 1
    _both_kinds(positive, metric, "samples", "labels 0 and 1")
    scores = values[:, 0] if values.shape[1] == 1 else values[:, 1] - values[:, 0]
    return _Scored.of(scores, positive, np.arange(count))


def _pairs(embeddings: Array, own: Array, metric: str) -> _Scored:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)
    first, second = np.triu_indices(len(embeddings), k=1)
    positive = own[first] == own[second]
    _both_kinds(positive, metric, "pairs of samples", "two samples of one speaker, and samples of two")
    return _Scored.of((unit @ unit.T)[first, second], positive, first, second)


def _both_kinds(positive: Array, metric: str, what: str, needed: str) -> None:
    if positive.all() or not positive.any():
        raise SamplesError(
            asked=f"compute {metric}",
            found=f"{len(positive)} {what}, all of them {'positive' if len(positive) and positive[0] else 'negative'}",
            fix=f"give both kinds: {needed}",
        )
