"""Intervals for the value of a metric and for the difference between two models on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from edgeport.contracts.samples import Array
from edgeport.contracts.verdict import Interval
from edgeport.errors import SamplesError

__all__ = ["bootstrap_mean", "bootstrap_statistic", "bounded_mean", "paired_proportions", "wilson"]

_RESAMPLES = 2000
_DRAWS_AT_ONCE = 4_000_000
_MOST_REDRAWN = 20


def wilson(successes: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)
    return Interval(low=low, estimate=share, high=high, confidence=confidence)


def paired_proportions(lost: float, gained: float, pairs: float, *, confidence: float = 0.95) -> Interval:
    """The score interval of the difference between two proportions seen on the same samples.

    Without a single discordant pair it is not [0, 0] but +-z^2 / (pairs + z^2).

    Args:
        lost: Pairs that only the first model has right.
        gained: Pairs that only the second model has right.
        pairs: All pairs.
        confidence: Two-sided.

    Returns:
        Of (lost - gained) / pairs, the first model's proportion minus the second's.

    Source: T. Tango, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design, Statistics in Medicine 17 (1998), 891-908.

    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    estimate = (lost - gained) / pairs

    def score(difference: float) -> float:
        a = 2 * pairs
        b = -lost - gained + (2 * pairs - lost + gained) * difference
        c = -gained * difference * (1 - difference)
        # The likelihood's own estimate of the probability of a gain, given the difference.
        gain = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = pairs * (2 * gain + difference * (1 - difference))
        distance = lost - gained - pairs * difference
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    # The score falls as the difference grows, so the bounds are where it crosses +z and -z.
    low = _crossing(score, z, -1.0, estimate)
    high = _crossing(score, -z, estimate, 1.0)
    return Interval(low=min(low, estimate), estimate=estimate, high=max(high, estimate), confidence=confidence)


def _crossing(falling: Callable[[float], float], level: float, low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        if falling(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def bootstrap_mean(values: Array, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The BCa bootstrap interval of a mean, widened for small samples.

    Args:
        values: float64 [N], one per sample.
        confidence: Two-sided.
        seed: Of the resampling.

    Returns:
        Without bounds (infinite) for a single value.

    Source: B. Efron, Better bootstrap confidence intervals, JASA 82 (1987), 171-185; the widening is the expanded
    percentile of T. Hesterberg, What teachers should know about the bootstrap, Am. Stat. 69 (2015), 371-386.

    """
    estimate = float(values.mean())
    if len(values) < 2:
        return Interval(low=-math.inf, estimate=estimate, high=math.inf, confidence=confidence)
    deviations = values - estimate
    spread = float(np.square(deviations).sum())
    if spread == 0:
        return Interval(low=estimate, estimate=estimate, high=estimate, confidence=confidence)
    means = _resampled_means(values, np.random.default_rng(seed))
    normal = NormalDist()
    below = float(np.mean(means < estimate) + np.mean(means == estimate) / 2)
    bias = normal.inv_cdf(min(max(below, 1 / len(means)), 1 - 1 / len(means)))
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    z = _expanded_z(len(values), confidence)

    def rank(side: float) -> float:
        shifted = bias + side
        return normal.cdf(bias + shifted / max(1 - acceleration * shifted, 1e-9))

    low, high = np.quantile(means, [rank(-z), rank(z)])
    return Interval(
        low=min(float(low), estimate), estimate=estimate, high=max(float(high), estimate), confidence=confidence
    )


def bootstrap_statistic(
    statistic: Callable[[Array], float],
    count: int,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 1000,
    starts: Sequence[int] = (),
) -> Interval:
    """The expanded percentile bootstrap interval of a statistic that is no mean.

    Samples of one sequence are not independent of each other, so where there are sequences, whole ones are drawn
    (the cluster bootstrap: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997).

    Args:
        statistic: Of the samples with these indices (int64 [count], or about as many where sequences are drawn). Draws
            for which it is NaN are drawn again: the interval is then that over draws for which it is defined.
        count: Number of samples.
        confidence: Two-sided.
        seed: Of the resampling.
        resamples: How often the statistic is computed.
        starts: Indices at which a sequence begins, the first of them 0; empty where samples are independent.

    Returns:
        Without bounds (infinite) for a single sample, or sequence.

    Raises:
        SamplesError: It is NaN for nearly every draw.

    Source: as `bootstrap_mean`.

    """
    estimate = statistic(np.arange(count))
    sequences = np.split(np.arange(count), list(starts)[1:]) if len(starts) else []
    drawn_from = len(sequences) or count
    if drawn_from < 2:
        return Interval(low=-math.inf, estimate=estimate, high=math.inf, confidence=confidence)
    generator = np.random.default_rng(seed)

    def draw() -> Array:
        chosen = generator.integers(0, drawn_from, drawn_from)
        return np.concatenate([sequences[one] for one in chosen]) if sequences else chosen

    values = np.empty(0)
    for _ in range(_MOST_REDRAWN):
        drawn = [statistic(draw()) for _ in range(resamples - len(values))]
        values = np.concatenate([values, [value for value in drawn if math.isfinite(value)]])
        if len(values) == resamples:
            break
    else:
        raise SamplesError(
            asked=f"tell how sure a metric over {count} samples is",
            found="that nearly every random part of them has nothing to compute it of, such as no positive sample",
            fix="give more samples of the rarer kind",
        )
    tail = NormalDist().cdf(-_expanded_z(drawn_from, confidence))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(
        low=min(float(low), estimate), estimate=estimate, high=max(float(high), estimate), confidence=confidence
    )


def bounded_mean(
    values: Array, starts: Sequence[int], *, least: float, most: float, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """An interval for the mean of bounded values, of which those of one sequence are not independent of each other.

    A bootstrap draws what was seen alone: where one step of hundreds differs, it takes for granted that no sequence
    goes wrong as a whole. Here one more sequence, of the mean length and at the bound all along, stands for those that
    were not seen, and weights are drawn instead of sequences. Both ends rise with every value. Where all values are at
    a bound, the interval is that of as many samples (`wilson`, `paired_proportions`) or wider; where each sequence is
    at one bound or the other, and all are as long, that of Clopper and Pearson (1934).

    Args:
        values: float64 [N], each within the bounds.
        starts: Indices at which a sequence begins, the first of them 0.
        least: The lower bound of a value.
        most: The upper one.
        confidence: Two-sided.
        seed: Of the weights.

    Source: N. Gaffke, Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
    variable, Mathematical Methods of Statistics 14 (2005), 451-467, as stated by E. Learned-Miller and P. S. Thomas, A
    new confidence interval for the mean of a bounded random variable, arXiv:1905.06208 (2019). That it covers for every
    distribution is proven for some and contradicted by none; sequences of several lengths are a ratio of two means, for
    which it is but a likeness.

    """
    lengths = np.diff([*starts, len(values)]).astype(np.float64)
    sums = np.add.reduceat(values, list(starts))
    weighed = _weighed(np.stack([sums, lengths], axis=1), np.random.default_rng(seed)) / lengths.mean()
    estimate = float(values.mean())
    above = _largest_mean(weighed, len(lengths), most, confidence)
    mirrored = np.stack([-weighed[:, 0], weighed[:, 1]], axis=1)
    below = -_largest_mean(mirrored, len(lengths), -least, confidence)
    return Interval(low=min(below, estimate), estimate=estimate, high=max(above, estimate), confidence=confidence)


def _largest_mean(weighed: Array, sequences: int, most: float, confidence: float) -> float:
    """The mean above which a share of the draws lies that is the tail.

    Args:
        weighed: float64 [draws, 2]: sums of values and of lengths in drawn weights, the mean length 1.
        sequences: How many.
        most: What all values of the sequence that was not seen are.
        confidence: Two-sided.

    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    # Where no sequence differs, at least what is open after as many samples, z^2 / (n + z^2).
    tail = min((1 - confidence) / 2, (1 + z * z / sequences) ** -sequences)
    sums, lengths = weighed.T

    def share_above(mean: float) -> float:
        # The unseen sequence's weight is Beta(1, n), independent of the proportions of the others: no need to draw it.
        odds = np.maximum(mean * lengths - sums, 0.0) / (most - mean)
        return float(np.mean((1 + odds) ** -float(sequences)))

    lowest = float((sums / lengths).min())
    return _crossing(share_above, tail, lowest, most) if lowest < most else most


def _weighed(rows: Array, generator: np.random.Generator) -> Array:
    """Sums [draws, ...] of rows [n, ...] in weights that are even over the simplex."""
    at_once = max(1, _DRAWS_AT_ONCE // len(rows))
    parts = []
    for start in range(0, _RESAMPLES, at_once):
        weights = generator.exponential(size=(min(at_once, _RESAMPLES - start), len(rows)))
        parts.append(weights @ rows / weights.sum(axis=1, keepdims=True))
    return np.concatenate(parts)


def _expanded_z(count: int, confidence: float) -> float:
    """The normal quantile that makes up for the bootstrap's narrowness at small `count`."""
    from scipy.special import stdtrit  # Student's t; scipy.stats takes seconds to import

    return float(stdtrit(count - 1, 0.5 + confidence / 2)) * math.sqrt(count / (count - 1))


def _resampled_means(values: Array, generator: np.random.Generator) -> Array:
    rows = max(1, _DRAWS_AT_ONCE // len(values))
    parts = [
        values[generator.integers(0, len(values), (min(rows, _RESAMPLES - start), len(values)))].mean(axis=1)
        for start in range(0, _RESAMPLES, rows)
    ]
    return np.concatenate(parts)
