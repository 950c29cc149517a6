import re

import numpy as np
import pytest

from edgeport.accuracy import METRICS, Metric, Truth, accuracy_result, least_samples
from edgeport.accuracy.intervals import paired_proportions
from edgeport.contracts import AccuracyResult, Interval, Outcome
from edgeport.errors import SamplesError, WrongOutput


def judged(
    lost: int, gained: int, count: int, *, allowed: float = 0.01, metric: Metric = METRICS["top1"]
) -> AccuracyResult:
    """The reference is right but on the last `gained` samples, the candidate but on the first `lost`."""
    labels = np.arange(count) % 10
    reference, candidate = (np.eye(10)[labels] for _ in range(2))
    reference[count - gained :] = 0
    candidate[:lost] = 0
    return accuracy_result(
        metric, {"o": candidate}, {"o": reference}, labels, allowed_drop=allowed, reference_name="PyTorch float32"
    )


@pytest.mark.parametrize(
    ("lost", "gained", "count", "outcome"),
    [
        pytest.param(0, 0, 1000, Outcome.PASS, id="equal"),
        pytest.param(0, 0, 100, Outcome.INCONCLUSIVE, id="equal-on-too-few"),
        pytest.param(3, 3, 1000, Outcome.PASS, id="lost-as-many-as-gained"),
        pytest.param(60, 0, 1000, Outcome.FAIL, id="lost-many"),
        pytest.param(12, 2, 1000, Outcome.INCONCLUSIVE, id="at-the-limit"),
        pytest.param(0, 30, 500, Outcome.PASS, id="better-than-float"),
    ],
)
def test_the_whole_interval_decides(lost: int, gained: int, count: int, outcome: Outcome) -> None:
    result = judged(lost, gained, count)

    assert result.outcome is outcome
    assert result.drop.estimate == pytest.approx((lost - gained) / count)
    assert bool(result.reason) is (outcome is not Outcome.PASS)
    assert (result.details["lost"], result.details["gained"]) == (lost, gained)


@pytest.mark.parametrize(("lost", "gained", "count"), [(0, 0, 100), (2, 1, 300), (12, 2, 500)])
def test_the_samples_it_asks_for_do_decide(lost: int, gained: int, count: int) -> None:
    result = judged(lost, gained, count)
    more = re.search(r"about (\d+) more", result.reason)
    assert more is not None

    factor = -(-(count + int(more[1])) // count)
    again = judged(lost * factor, gained * factor, count * factor)

    assert again.outcome in {Outcome.PASS, Outcome.FAIL}
    fewer = judged(lost, gained, count + int(more[1]) // 4)
    assert fewer.outcome is Outcome.INCONCLUSIVE


def test_a_drop_at_the_limit_asks_for_no_samples() -> None:
    assert "no number of samples" in judged(10, 0, 1000).reason


def test_scores_that_are_no_proportions() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(200, 16))
    arms = {noise: reference + noise * rng.normal(size=reference.shape) for noise in (0.01, 0.3)}

    results = {
        noise: accuracy_result(
            METRICS["cosine"], {"o": arm}, {"o": reference}, None, allowed_drop=0.01, reference_name="float"
        )
        for noise, arm in arms.items()
    }

    assert results[0.01].outcome is Outcome.PASS
    assert results[0.01].details["sqnr_db"] == pytest.approx(40, abs=0.5)
    assert results[0.3].outcome is Outcome.FAIL
    assert results[0.3].drop.low < results[0.3].drop.estimate < results[0.3].drop.high


def test_a_statistic_of_the_whole_set_is_bootstrapped_in_pairs() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    reference = truth + rng.normal(size=300)
    result = accuracy_result(
        METRICS["spearman"],
        {"o": reference + 1e-3 * rng.normal(size=300)},
        {"o": reference},
        truth,
        allowed_drop=0.01,
        reference_name="float",
    )

    assert result.outcome is Outcome.PASS
    # The value itself is uncertain by much more: only pairing makes the drop this sure.
    assert result.drop.high - result.drop.low < 0.1 * (result.value.high - result.value.low)


def test_a_users_right_and_wrong_is_a_proportion() -> None:
    metric = Metric(
        name="own:right",
        truth=Truth.LABELS,
        measure=lambda output, target: (output.argmax(1) == target) & (output.max(1) > 0),
    )

    assert judged(1, 1, 100, metric=metric).drop == judged(1, 1, 100).drop


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("metric", ["top1", "mae"])
def test_an_output_that_is_no_number_is_invalid(bad: float, metric: str) -> None:
    reference = np.eye(10)
    candidate = reference.copy()
    candidate[3, 2] = bad
    labels = np.arange(10) if metric == "top1" else None

    result = accuracy_result(
        METRICS[metric], {"o": candidate}, {"o": reference}, labels, allowed_drop=0.1, reference_name="float"
    )

    assert result.outcome is Outcome.INVALID
    assert "1 of 10 samples, first for sample 3" in result.reason


def test_an_infinity_of_the_model_itself_is_no_fault() -> None:
    reference = np.where(np.eye(10) > 0, 1.0, -np.inf)

    result = accuracy_result(
        METRICS["top1"], {"o": reference}, {"o": reference}, np.arange(10), allowed_drop=0.5, reference_name="float"
    )

    assert result.outcome is Outcome.PASS


def test_what_can_not_be_compared() -> None:
    good = {"o": np.eye(4)}

    with pytest.raises(WrongOutput, match="NaN in its output for sample 1"):
        accuracy_result(
            METRICS["agreement"],
            good,
            {"o": np.where(np.arange(4)[:, None] == 1, np.nan, 1.0) * np.eye(4)},
            None,
            allowed_drop=0.1,
            reference_name="float",
        )
    with pytest.raises(SamplesError, match="without labels"):
        accuracy_result(METRICS["top1"], good, good, None, allowed_drop=0.1, reference_name="float")
    with pytest.raises(SamplesError, match="shapes"):
        accuracy_result(
            METRICS["agreement"], {"o": np.eye(4)[:3]}, good, None, allowed_drop=0.1, reference_name="float"
        )


def of_sequences(lost_in: int, sequences: int, steps: int, *, known: bool, allowed: float = 0.05) -> AccuracyResult:
    """The candidate is wrong at each step of some sequences, and right at each of all others."""
    labels = np.arange(sequences * steps) % 10
    reference, candidate = (np.eye(10)[labels] for _ in range(2))
    candidate[: lost_in * steps] = 0
    return accuracy_result(
        METRICS["top1"], {"o": candidate}, {"o": reference}, labels, allowed_drop=allowed, reference_name="PyTorch",
        starts=range(0, sequences * steps, steps) if known else (),
    )  # fmt: skip


def test_steps_of_a_sequence_count_once() -> None:
    many, few = (of_sequences(2, 20, 100, known=known).drop for known in (False, True))

    assert many.estimate == few.estimate == 0.1
    # The standard error of 200 in 2000 is 0.0067. Clopper and Pearson's interval of 2 in 20 goes from 0.0123 to 0.3170
    # (their tables of 1934 have 0.01 and 0.32); of a difference, whose lower bound is -1, it goes lower.
    assert many.high - many.low < 0.04
    assert few.high == pytest.approx(0.3170, abs=0.01)
    assert -0.15 < few.low < 0.0123


def test_equal_answers_in_few_sequences_prove_little() -> None:
    assert of_sequences(0, 20, 100, known=False).outcome is Outcome.PASS
    assert of_sequences(0, 20, 100, known=True).outcome is Outcome.INCONCLUSIVE
    assert "20 sequences can't tell" in of_sequences(0, 20, 100, known=True).reason
    assert of_sequences(0, 100, 20, known=True).outcome is Outcome.PASS


@pytest.mark.parametrize("sequences", [16, 17, 100, 380, 381])
def test_as_many_sequences_as_are_said_to_be_needed(sequences: int) -> None:
    drop = of_sequences(0, sequences, 2, known=True).drop

    needed = least_samples(drop.high * (1 + 1e-9), sequences=True)

    assert needed == sequences
    assert drop.high >= paired_proportions(0, 0, sequences).high * (1 - 1e-9)


def test_one_step_that_differs_proves_no_more_than_none() -> None:
    """A bootstrap draws what was seen alone, so that one wrong step made it surer than none did."""
    steps, sequences = 50, 40
    labels = np.arange(sequences * steps) % 10
    reference = np.eye(10)[labels]

    def drop(wrong: int) -> Interval:
        candidate = reference.copy()
        candidate[:wrong] = 0
        return accuracy_result(
            METRICS["top1"], {"o": candidate}, {"o": reference}, labels, allowed_drop=0.05, reference_name="float",
            starts=range(0, sequences * steps, steps),
        ).drop  # fmt: skip

    drops = [drop(wrong) for wrong in (0, 1, 2, 10, 50, 51, 500)]

    assert [one.high for one in drops] == sorted({one.high for one in drops})
    assert [one.low for one in drops] == sorted({one.low for one in drops})


def test_one_sequence_tells_nothing_of_others() -> None:
    assert "the steps of one sequence" in of_sequences(0, 1, 2000, known=True, allowed=0.5).reason


def test_errors_of_sequences_are_drawn_by_sequence_too() -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal((600, 3))
    candidate = reference + np.repeat(random.standard_normal(12), 50)[:, None]

    def width(starts) -> float:
        drop = accuracy_result(
            METRICS["mae"], {"o": candidate}, {"o": reference}, None, allowed_drop=1, reference_name="PyTorch",
            starts=starts,
        ).drop  # fmt: skip
        return drop.high - drop.low

    assert width(range(0, 600, 50)) > 4 * width(())
    assert width(range(600)) == width(())
