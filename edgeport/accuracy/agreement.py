"""How far outputs agree with the float model's, whatever kind of output it is; no labels are needed."""

from __future__ import annotations

import numpy as np

from edgeport.contracts.samples import Array
from edgeport.errors import SamplesError

__all__ = ["agreement", "are_class_scores"]

_ROUNDING = 1e-12
"""float32 rounds to 6e-8 of a value: what varies by less than 1e-6 of it is constant."""


def are_class_scores(dtype: str, shape: tuple[int | str, ...]) -> bool:
    """Whether an output of this dtype and shape is taken for scores of classes: floats [N, classes]."""
    return "float" in dtype and len(shape) == 2 and (isinstance(shape[1], str) or shape[1] > 1)


def agreement(output: Array, reference: Array) -> Array:
    """Scores [N] of outputs [N, ...] against the float model's, 1 where they are equal.

    What is compared depends on the kind of output:

    - floats [N, classes], two classes or more: whether the largest score is that of the same class (bool).
    - integers, bools, strings (token ids, masks, classes): the share of equal values in a sample; a bool where a sample
      has one value.
    - other floats (regression, feature maps, token scores, raw detections): 1 minus the squared error over the
      reference's spread, so that the mean is the coefficient of determination R2, pooled over all values. The spread
      is the variance of each value over the samples, averaged over the values; where no value changes from sample to
      sample, the mean square takes its place. It may be negative.

    Raises:
        SamplesError: Shapes that differ.

    """
    if output.shape != reference.shape:
        raise SamplesError(
            asked="compute agreement with the float model",
            found=f"outputs of shape {list(output.shape)} and {list(reference.shape)}",
            fix="compare outputs of the same samples",
        )
    if reference.dtype.kind not in "fc":
        same = (output == reference).reshape(len(output), -1)
        return same[:, 0] if same.shape[1] == 1 else np.asarray(same.mean(axis=1))
    if are_class_scores("float", reference.shape):
        return np.asarray((output.argmax(axis=1) == reference.argmax(axis=1)) & ~np.isnan(output).any(axis=1))
    return _determination(output, reference)


def _determination(output: Array, reference: Array) -> Array:
    ours, theirs = (array.reshape(len(array), -1) for array in (output, reference))
    # Infinities that both have (masked scores) are equal, and no number to compute with.
    counted = np.isfinite(theirs)
    wanted = np.where(counted, theirs, 0).astype(np.float64)
    spread, power = float(np.square(wanted - wanted.mean(axis=0)).mean()), float(np.square(wanted).mean())
    if spread <= _ROUNDING * power:
        spread = power
    error = np.square(np.where(counted, ours, 0).astype(np.float64) - wanted).mean(axis=1)
    return np.asarray(1 - error / spread) if spread > 0 else error == 0
