"""Whether two sets of samples look alike, and whether labels are as a metric needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeport.calibration.data.check import Lint
from edgeport.contracts import Array

__all__ = ["Profile", "lint_labels", "lint_unlike"]

_MOST_KEPT = 20_000
_CERTAIN_P = 1e-6
"""Equal distributions differ so much in one of a million tests."""

_LEAST_DISTANCE = 0.3
"""Of two distribution functions: with many samples even what is too small to matter is certain."""

_FEATURES = ("mean", "standard deviation", "smallest value", "largest value")

_PER_CLASS = 3
"""With fewer samples per class than this, some classes are missing by chance."""

_MAJORITY = 0.8
_FEW_OF_A_KIND = 10
_MOST_CLASSES = 1 << 20
"""Numbers above are identifiers, not classes; whoever judges by them says that they are no classes of the model."""


class Profile:
    """Mean, standard deviation and extremes of each sample of one input."""

    def __init__(self) -> None:
        self._parts: list[Array] = []
        self._count = 0

    def add(self, rows: Array) -> None:
        """Samples [n, ...] of numbers; those beyond 20 000 are not kept."""
        rows = rows[: _MOST_KEPT - self._count]
        if not rows.size:
            return
        flat = rows.reshape(len(rows), -1)
        low, high = flat.min(axis=1), flat.max(axis=1)
        # float64 in the sums alone: no copy of the batch.
        mean, spread = flat.mean(axis=1, dtype=np.float64), flat.std(axis=1, dtype=np.float64)
        self._parts.append(np.stack([mean, spread, low.astype(np.float64), high.astype(np.float64)], axis=1))
        self._count += len(rows)

    @property
    def features(self) -> Array:
        """float64 [N, 4]."""
        return np.concatenate(self._parts) if self._parts else np.zeros((0, len(_FEATURES)))


def lint_unlike(calibration: Mapping[str, Profile], evaluation: Mapping[str, Profile]) -> list[Lint]:
    """Inputs whose calibration samples come from another distribution than the evaluation samples.

    Each sample's mean, spread and extremes are compared by the two-sample Kolmogorov-Smirnov test.

    Returns:
        One for each such input, with what differs most; none where sets are so small that nothing is certain.

    """
    from scipy.stats import ks_2samp

    lints = []
    for name in calibration.keys() & evaluation.keys():
        ours, theirs = calibration[name].features, evaluation[name].features
        if not len(ours) or not len(theirs):
            continue
        tests = [ks_2samp(ours[:, index], theirs[:, index], method="asymp") for index in range(len(_FEATURES))]
        worst = int(np.argmax([test.statistic for test in tests]))
        if tests[worst].pvalue > _CERTAIN_P or tests[worst].statistic < _LEAST_DISTANCE:
            continue
        here, there = (float(np.median(features[:, worst])) for features in (ours, theirs))
        message = (
            f"input {name!r} is unlike the evaluation samples': the {_FEATURES[worst]} of a sample is {here:.4g} here "
            f"and {there:.4g} there (medians); are both preprocessed alike, and drawn from the same data?"
        )
        lints.append(Lint(code="UNLIKE_EVALUATION", message=message, input=name))
    return sorted(lints, key=lambda lint: lint.input)


def lint_labels(labels: Array, classes: Sequence[str], metric: str) -> list[Lint]:
    """What is odd about labels [N] for a metric that counts classes, or ranks two kinds.

    Args:
        labels: Whole numbers; others, and labels of several numbers, are not looked at.
        classes: Class names by index, or empty.
        metric: Its name.

    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0:
        return []
    if metric in ("auc", "eer"):
        return _lint_kinds(labels)
    counted = metric in ("top1", "top5") and labels.max() < _MOST_CLASSES
    return _lint_classes(labels, classes) if counted else []


def _lint_kinds(labels: Array) -> list[Lint]:
    positive = int(np.sum(labels == 1))
    rarer = min(positive, len(labels) - positive)
    if labels.max() > 1 or rarer >= _FEW_OF_A_KIND:
        return []
    kind = "positive" if positive == rarer else "negative"
    message = f"{rarer} of {len(labels)} samples {'is' if rarer == 1 else 'are'} {kind}: intervals will be wide"
    return [Lint(code="UNBALANCED", message=message)]


def _lint_classes(labels: Array, classes: Sequence[str]) -> list[Lint]:
    counts = np.bincount(labels, minlength=len(classes))

    def named(index: int) -> str:
        return repr(classes[index]) if index < len(classes) else str(index)

    lints = []
    missing = np.flatnonzero(counts == 0)
    if missing.size and len(labels) >= _PER_CLASS * len(counts):
        some = ", ".join(named(index) for index in missing[:3]) + (", ..." if missing.size > 3 else "")
        message = f"no sample of {missing.size} of {len(counts)} classes ({some})"
        lints.append(Lint(code="MISSING_CLASS", message=message))
    most = int(np.argmax(counts))
    if counts[most] > _MAJORITY * len(labels) and len(labels) > 1:
        message = f"{counts[most]} of {len(labels)} labels are {named(most)}: always answering that is right as often"
        lints.append(Lint(code="UNBALANCED", message=message))
    return lints
