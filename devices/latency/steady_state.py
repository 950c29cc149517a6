"""Whether a process came to rest, and from where on.

Winsorised log latency; means of batches of 5 calls; the MSER rule cuts the warm-up; PELT finds changes of level in the
rest; the Theil-Sen slope finds a drift.

Sources: White, "An effective truncation heuristic for bias reduction in simulation output" (1997), for MSER; Killick,
Fearnhead and Eckley, "Optimal detection of changepoints with a linear computational cost" (2012), for PELT; Barrett et
al., "Virtual machine warmup blows hot and cold" (2017), for the classes and for treating segments that hardly differ
as one; Sen (1968) for the slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shape", "SteadyState", "change_points", "find_steady_state", "mser_cut", "theil_sen_slope"]

Floats = NDArray[np.float64]

TOLERANCE = float(np.log(1.01))
"""Levels that differ by less, and drifts over the whole segment that are smaller, count as none."""

_BATCH = 5
_MOST_BATCHES = 400  # PELT's cost is quadratic where nothing changes
_LEAST_READINGS = 10
_WINSORISED = (0.05, 0.95)
_SEGMENT_BATCHES = 3
_STEADY_PART = 0.5
_DRIFT_ERRORS = 2.5  # a drift counts where it is this many standard errors from none
_PENALTY = 3.0


class Shape(StrEnum):
    """Of a process, over time."""

    STEADY = "steady"
    SLOWDOWN = "slowdown"
    """It was faster before."""
    CYCLIC = "cyclic"
    """It goes back and forth between levels."""
    UNSTEADY = "no-steady-state"
    SHORT = "too-short"
    """Too few readings to say."""


@dataclass(frozen=True, kw_only=True)
class SteadyState:
    """What was found.

    Attributes:
        shape: In one word.
        start: Index of the first reading of the last level; readings before it are warm-up where the shape is STEADY.
        drift: Change of the log latency over that level, by its slope.
        changes: Indexes of the readings where the level changed.

    """

    shape: Shape
    start: int
    drift: float
    changes: tuple[int, ...]


def find_steady_state(latency_ns: Floats) -> SteadyState:
    """Looks for steady state.

    Args:
        latency_ns: float64 [readings], in order of time.

    """
    count = len(latency_ns)
    if count < _LEAST_READINGS:
        return SteadyState(shape=Shape.SHORT, start=0, drift=0.0, changes=())
    size = max(1 if count < _LEAST_READINGS * _BATCH else _BATCH, -(-count // _MOST_BATCHES))
    logs = _winsorised_log(latency_ns)
    means = _batch_means(logs, size)
    noise = _noise(means, neighbours=_neighbour_correlation(logs), size=size)
    cut = mser_cut(means)
    changes = [cut + point for point in change_points(means[cut:], noise=noise)]
    borders = [cut, *changes, len(means)]
    levels = [float(means[a:b].mean()) for a, b in pairwise(borders)]
    start = _start_of_last_level(levels, borders)
    last = float(means[start:].mean())
    if start == cut > 0 and abs(float(means[:cut].mean()) - last) <= TOLERANCE + 2 * noise / np.sqrt(cut):
        start = 0  # what MSER cut is no different
    drift = theil_sen_slope(means[start:]) * (len(means) - start)
    shape = _shape(means, start, levels, drift=drift, noise=noise)
    return SteadyState(shape=shape, start=start * size, drift=drift, changes=tuple(size * point for point in changes))


def mser_cut(means: Floats) -> int:
    """The truncation d, at most half of the series, that minimises sum_{i >= d} (y_i - mean)^2 / (n - d)^2."""
    count = len(means)
    tails = np.arange(count, 0, -1, dtype=np.float64)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    errors = (squares - sums**2 / tails) / tails**2
    return int(np.argmin(errors[: count // 2 + 1]))


def change_points(values: Floats, *, noise: float) -> list[int]:
    """Where the mean of a series changes (PELT with squared error, penalty 3 log n per change).

    Args:
        values: float64 [n].
        noise: Standard deviation of one value about its level, correlation included.

    Returns:
        Index of the first value of each level but the first.

    """
    count = len(values)
    if count < 2 * _SEGMENT_BATCHES:
        return []
    centred = values - values.mean()
    sums = np.concatenate([[0.0], np.cumsum(centred)])
    squares = np.concatenate([[0.0], np.cumsum(centred**2)])
    penalty = _PENALTY * np.log(count) * max(noise, 1e-12) ** 2
    best = np.full(count + 1, np.inf)
    best[0] = -penalty
    previous = np.zeros(count + 1, dtype=np.intp)
    candidates = np.array([0], dtype=np.intp)
    for end in range(_SEGMENT_BATCHES, count + 1):
        lengths = end - candidates
        costs = best[candidates] + squares[end] - squares[candidates] - (sums[end] - sums[candidates]) ** 2 / lengths
        choice = int(np.argmin(costs))
        best[end] = costs[choice] + penalty
        previous[end] = candidates[choice]
        candidates = candidates[costs <= best[end]]
        newcomer = end - _SEGMENT_BATCHES + 1
        if newcomer >= _SEGMENT_BATCHES:
            candidates = np.append(candidates, newcomer)
    points = []
    at = int(previous[count])
    while at > 0:
        points.append(at)
        at = int(previous[at])
    return points[::-1]


def theil_sen_slope(values: Floats) -> float:
    """Median of the slopes between all pairs, per step."""
    count = len(values)
    if count < 2:
        return 0.0
    first, second = np.triu_indices(count, k=1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def _winsorised_log(latency_ns: Floats) -> Floats:
    """Spikes are drawn in to the 95th percentile (and dips to the 5th): they are no level."""
    logs = np.log(np.maximum(latency_ns, 1e-3))
    low, high = np.quantile(logs, _WINSORISED)
    return np.clip(logs, low, high)


def _batch_means(values: Floats, size: int) -> Floats:
    whole = len(values) // size * size
    means: Floats = values[:whole].reshape(-1, size).mean(axis=1)
    return means


def _noise(means: Floats, *, neighbours: float, size: int) -> float:
    """Standard deviation of a batch mean about its level, as it would be were the means independent.

    From the median distance of neighbours, which a few changes of level do not touch. Correlation hides part of it:
    once as an AR(1) process of calls predicts, once from the distance of wider blocks; the larger counts.
    """
    powers = neighbours ** np.arange(1, size)
    variance = size + 2 * float(((size - np.arange(1, size)) * powers).sum())  # of a sum of `size` calls, unit variance
    shared = neighbours * (1 - neighbours**size) ** 2 / (1 - neighbours) ** 2  # covariance of neighbouring sums
    long_run = size * (1 + neighbours) / (1 - neighbours)
    found = _distance(means) * float(np.sqrt(long_run / (variance - shared)))
    widest = len(means) // 25
    if widest > 1:
        found = max(found, _distance(_batch_means(means, widest)) * float(np.sqrt(widest)))
    return found


def _distance(values: Floats, lag: int = 1) -> float:
    """Standard deviation of independent values, from the median distance of those `lag` apart."""
    if len(values) <= lag:
        return 0.0
    return 1.4826 * float(np.median(np.abs(values[lag:] - values[:-lag]))) / float(np.sqrt(2))


def _neighbour_correlation(values: Floats) -> float:
    """Correlation rho of neighbouring calls, 0..0.95, from squared distances at lags 1 and 2 (AR(1): as 1 to 1 + rho).

    A change of level leaves it alone, where the plain autocorrelation would take the change for correlation.
    """
    near, far = _distance(values, 1), _distance(values, 2)
    if near == 0:
        return 0.0
    return float(np.clip((far / near) ** 2 - 1, 0.0, 0.95))


def _start_of_last_level(levels: list[float], borders: list[int]) -> int:
    """Where the last level begins, together with those before it that differ by less than the tolerance."""
    index = len(levels) - 1
    while index > 0 and abs(levels[index - 1] - levels[-1]) <= TOLERANCE:
        index -= 1
    return borders[index]


def _shape(means: Floats, start: int, levels: list[float], *, drift: float, noise: float) -> Shape:
    count = len(means)
    last = float(means[start:].mean())
    if _is_cyclic(levels):
        return Shape.CYCLIC
    before = means[:start]
    if _was_faster(before, last, noise):
        return Shape.SLOWDOWN
    length = count - start
    error = noise * np.sqrt(12.0 / max(length, 1))
    drifts = abs(drift) > max(TOLERANCE, _DRIFT_ERRORS * error)
    if drifts:
        return Shape.SLOWDOWN if drift > 0 else Shape.UNSTEADY
    if length < _STEADY_PART * count:
        return Shape.UNSTEADY
    return Shape.STEADY


def _was_faster(before: Floats, last: float, noise: float) -> bool:
    """Some stretch before the last level was faster, by more than the tolerance and than noise explains."""
    size = _SEGMENT_BATCHES
    if len(before) < size:
        return False
    length = max(size, len(before) // 4)
    sums = np.concatenate([[0.0], np.cumsum(before)])
    stretches = (sums[length:] - sums[:-length]) / length
    return bool(stretches.min() < last - TOLERANCE - 3.5 * noise / np.sqrt(length))


def _is_cyclic(levels: list[float]) -> bool:
    steps = np.diff(levels)
    if len(steps) < 3 or np.abs(steps).min() <= TOLERANCE:
        return False
    alternates = bool(np.all(steps[1:] * steps[:-1] < 0))
    returns = np.abs(np.subtract(levels[2:], levels[:-2])) < np.abs(steps[1:]) / 2
    return alternates and bool(returns.all())
