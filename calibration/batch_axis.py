"""Which axis of an activation counts the samples of a call, and the activation sorted by samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeport.contracts import Array

__all__ = ["batch_axis", "by_sample"]


def batch_axis(once: Sequence[int], twice: Sequence[int]) -> int | None:
    """The axis that is twice as long for two samples as for one, if it is the only one that differs.

    Seen rather than read in the graph: a recurrent layer has its samples in the second axis, and attention often
    counts samples times heads in the first.
    """
    if len(once) != len(twice):
        return None
    differing = [axis for axis, (one, two) in enumerate(zip(once, twice, strict=True)) if one != two]
    if len(differing) != 1 or twice[differing[0]] != 2 * once[differing[0]]:
        return None
    return differing[0]


def by_sample(array: Array, axis: int | None, samples: int) -> Array:
    """The array as [samples, ...]; as [1, ...] where nothing in it follows the number of samples.

    Args:
        array: Any shape; the result is a view of it where axis 0 is the axis.
        axis: That counts samples, or a whole multiple of them.
        samples: In the call.

    """
    if axis is None or axis >= array.ndim or array.shape[axis] % samples:
        return array[None]
    return np.moveaxis(array, axis, 0).reshape(samples, -1)
