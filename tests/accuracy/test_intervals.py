import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.accuracy.intervals import bootstrap_mean, bootstrap_statistic, bounded_mean, paired_proportions, wilson

counts = st.integers(0, 60)


def test_tango_as_published() -> None:
    # Airway hyper-responsiveness before and after stem cell transplantation: 21 children, 1 and 7 discordant.
    # The interval is in Fagerland, Lydersen, Laake, BMC Med. Res. Methodol. 14:32 (2014): -0.517 to -0.026.
    interval = paired_proportions(1, 7, 21)

    assert (round(interval.low, 3), round(interval.high, 3)) == (-0.517, -0.026)


def test_no_discordant_pair_does_not_mean_no_doubt() -> None:
    z2 = 1.959964**2

    interval = paired_proportions(0, 0, 300)

    assert interval.estimate == 0
    assert math.isclose(interval.high, z2 / (300 + z2), rel_tol=1e-5)
    assert math.isclose(interval.low, -interval.high, rel_tol=1e-5)


@given(lost=counts, gained=counts, same=counts)
def test_tango_is_symmetric_and_within_its_range(lost: int, gained: int, same: int) -> None:
    pairs = lost + gained + same + 1

    one, other = paired_proportions(lost, gained, pairs), paired_proportions(gained, lost, pairs)

    assert -1 <= one.low <= one.estimate <= one.high <= 1
    assert math.isclose(one.low, -other.high, abs_tol=1e-9)
    assert one.high > one.low


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.01), (0.1, 0.02), (0.2, 0.2)])
@pytest.mark.parametrize("pairs", [40, 120])
def test_tango_covers_the_truth(lost: float, gained: float, pairs: int) -> None:
    covered = total = 0.0
    for b, c in product(range(pairs + 1), repeat=2):
        if b + c > pairs:
            continue
        log_ways = math.lgamma(pairs + 1) - math.lgamma(b + 1) - math.lgamma(c + 1) - math.lgamma(pairs - b - c + 1)
        log_chance = log_ways + b * math.log(lost) + c * math.log(gained) + (pairs - b - c) * math.log1p(-lost - gained)
        if log_chance < math.log(1e-7):
            continue
        interval = paired_proportions(b, c, pairs)
        total += math.exp(log_chance)
        covered += math.exp(log_chance) * (interval.low <= lost - gained <= interval.high)

    assert total > 0.999
    assert covered >= 0.93


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_wilson_covers_the_truth(share: float) -> None:
    trials = 150
    covered = sum(
        math.comb(trials, hits) * share**hits * (1 - share) ** (trials - hits)
        for hits in range(trials + 1)
        if wilson(hits, trials).low <= share <= wilson(hits, trials).high
    )

    assert covered >= 0.92


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        pytest.param(lambda rng, n: rng.normal(size=n), 0.0, id="normal"),
        pytest.param(lambda rng, n: rng.exponential(size=n), 1.0, id="skewed"),
    ],
)
@pytest.mark.parametrize("count", [12, 60])
def test_the_bootstrap_covers_the_truth(draw: object, truth: float, count: int) -> None:
    rng = np.random.default_rng(5)
    intervals = [bootstrap_mean(draw(rng, count), seed=trial) for trial in range(300)]

    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])

    # 300 trials: the standard error is 1.3 %; twelve exponential values are hard for any bootstrap.
    assert covered >= (0.88 if count == 12 else 0.91)


def test_the_bootstrap_is_repeatable_and_knows_its_limits() -> None:
    values = np.random.default_rng(0).normal(size=30)

    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(np.full(10, 2.0)).high == 2.0
    assert math.isinf(bootstrap_mean(np.array([2.0])).high)


def test_a_statistic_that_is_no_mean() -> None:
    values = np.random.default_rng(0).normal(size=200)

    interval = bootstrap_statistic(lambda chosen: float(np.median(values[chosen])), len(values), resamples=500)

    assert interval.low < interval.estimate == float(np.median(values)) < interval.high
    # The asymptotic standard error of the median is 1.2533 / sqrt(n).
    assert math.isclose(interval.high - interval.low, 2 * 1.96 * 1.2533 / math.sqrt(200), rel_tol=0.4)


def test_sequences_that_are_all_right_or_all_wrong_are_as_clopper_and_pearson_have_them() -> None:
    from scipy.stats import beta

    wrong, sequences, steps = 30, 40, 7
    values = np.repeat(np.arange(sequences) < wrong, steps).astype(float)

    interval = bounded_mean(values, range(0, len(values), steps), least=0, most=1)

    assert interval.low == pytest.approx(beta.ppf(0.025, wrong, sequences - wrong + 1), abs=0.01)
    assert interval.high == pytest.approx(beta.ppf(0.975, wrong + 1, sequences - wrong), abs=0.01)


@given(
    values=st.lists(st.floats(-1, 1), min_size=6, max_size=24),
    more=st.lists(st.floats(0, 2), min_size=24, max_size=24),
    cuts=st.sets(st.integers(1, 5), max_size=5),
)
def test_larger_values_never_have_a_lower_interval(values: list[float], more: list[float], cuts: set[int]) -> None:
    starts = [0, *sorted(cuts)]
    raised = [min(1.0, value + step) for value, step in zip(values, more, strict=False)]

    before, after = (bounded_mean(np.array(each), starts, least=-1, most=1) for each in (values, raised))

    assert -1 <= before.low <= before.estimate <= before.high <= 1
    assert before.low <= after.low + 1e-9
    assert before.high <= after.high + 1e-9


def test_sequences_that_are_lost_as_a_whole_are_covered() -> None:
    """One in twenty is; a bootstrap of ten sequences covers less than half of the time, for mostly it saw none."""
    random = np.random.default_rng(1)
    truth = 0.05 + 0.95 * 0.002
    covered = 0
    for trial in range(200):
        lengths = random.integers(5, 40, 10)
        lost = np.repeat(random.random(10) < 0.05, lengths) | (random.random(lengths.sum()) < 0.002)
        starts = np.cumsum([0, *lengths[:-1]]).tolist()
        interval = bounded_mean(lost.astype(float), starts, least=-1, most=1, seed=trial)
        covered += interval.low <= truth <= interval.high

    assert covered / 200 >= 0.95
