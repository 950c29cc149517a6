"""Per tensor the method of least expected error where it is read.

What a reader makes of the error e of its input is, at an output that is the sum over k of w_k * e_k: a part that all
k share, (mean e)**2 * (sum w)**2, and one that averages out, var e * sum w**2. Rounding has no mean; clipping has, and
a reader that averages (a pooling, a depthwise convolution with weights of one sign) lets it through in full while the
rest vanishes. So the squared error alone clips too much in front of such readers. Mean and variance of e are those
expected on the histogram (`error.py`); the ratio of the two sums is a property of the reader. The split into bias and
noise of a quantization error is that of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (2019), section 3.2.

A histogram does not say where in a tensor its values stand, and the large values of a transformer stand in the same few
channels of every sample (Dettmers et al., "LLM.int8()", 2022): cut off, they are one error for all that reads them,
which no other value averages out. What every sample reaches is therefore no outlier, and no candidate clips within the
means of the samples' extremes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from edgeport.calibration.ranges.entropy import entropy
from edgeport.calibration.ranges.error import density_of, mean_error, mean_squared_error
from edgeport.calibration.ranges.extremes import NOTHING_FINITE, average, min_max, percentile
from edgeport.calibration.ranges.grid import Scheme, grid_of
from edgeport.calibration.ranges.methods import Auto, Average, Entropy, LeastSquares, MinMax, Percentile, RangeMethod
from edgeport.calibration.ranges.mse import least_squares
from edgeport.calibration.ranges.observer_state import state_of
from edgeport.contracts import TensorStatistics

__all__ = ["automatic", "choose"]

Find = Callable[[RangeMethod], tuple[float, float]]

_SAME = 1e-12
"""Costs are equal where they differ by no more, relatively: a sum is rounded otherwise in another row of a product."""
_CANDIDATES: tuple[RangeMethod, ...] = (MinMax(), Percentile(99.999), Percentile(99.99), LeastSquares(), Entropy())
_COMPUTE: Mapping[type, Callable[[Any, TensorStatistics, Scheme], tuple[float, float]]] = {
    MinMax: min_max,
    Percentile: percentile,
    LeastSquares: least_squares,
    Entropy: entropy,
    Average: average,
}


def automatic(method: Auto, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The range of the chosen method, for a reader that lets every error through alike."""
    del method
    return choose(statistics, scheme)[1]


def choose(
    statistics: TensorStatistics, scheme: Scheme, *, bias_weight: float = 1.0, find: Find | None = None
) -> tuple[RangeMethod, tuple[float, float]]:
    """The method with the least expected error at the readers' outputs, and its range; of equal ones the first.

    Args:
        statistics: Of one tensor, with extremes, histogram and averages.
        scheme: Integers.
        bias_weight: How much the mean of the error counts against its variance: (sum w)**2 / sum w**2 of the readers.
        find: The range by a method, where someone keeps what was found already.

    """
    find = find or partial(_found, statistics, scheme)
    state = state_of(statistics, "histogram")
    if not state["counts"].any():
        return MinMax(), NOTHING_FINITE
    usual = find(Average())
    ends = [(min(low, usual[0]), max(high, usual[1])) for low, high in map(find, _CANDIDATES)]
    density, grid = density_of(state), grid_of(scheme, *np.array(ends).T)
    cost = mean_squared_error(density, grid)
    if bias_weight != 1.0:
        cost = cost + (bias_weight - 1.0) * np.square(mean_error(density, grid))
    best = int(np.argmax(cost <= cost.min() * (1.0 + _SAME)))
    return _CANDIDATES[best], ends[best]


def _found(statistics: TensorStatistics, scheme: Scheme, method: RangeMethod) -> tuple[float, float]:
    return _COMPUTE[type(method)](method, statistics, scheme)
