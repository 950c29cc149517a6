"""The area under the ROC curve and the equal error rate, against scikit-learn and scipy."""

import numpy as np
import pytest

from edgeport.accuracy import METRICS, accuracy_result, evaluate
from edgeport.accuracy.ranking import auc, eer
from edgeport.contracts import Array, Outcome
from edgeport.errors import SamplesError


def problem(count: int = 300, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    labels = (random.random(count) < 0.3).astype(np.int64)
    return np.round(random.normal(size=count) + 1.5 * labels, 1), labels  # rounded: ties occur


def speakers(people: int = 12, each: int = 6, noise: float = 0.5, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), each)
    return random.normal(size=(people, 16))[labels] + noise * random.normal(size=(len(labels), 16)), labels


def interpolated_eer(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """By root finding on scikit-learn's curve, the usual recipe."""
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    return float(brentq(lambda x: 1 - x - interp1d(false, true)(x), 0, 1))


@pytest.mark.parametrize("seed", range(3))
def test_both_are_as_in_scikit_learn_whatever_the_weights(seed: int) -> None:
    from sklearn.metrics import roc_auc_score

    scores, labels = problem(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(scores))

    assert auc(scores, labels)(np.ones(300)) == pytest.approx(roc_auc_score(labels, scores))
    assert auc(scores, labels)(weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    assert -eer(scores, labels)(np.ones(300)) == pytest.approx(interpolated_eer(labels, scores), abs=1e-6)
    drawn = np.repeat(np.arange(300), weights)
    assert -eer(scores, labels)(weights) == pytest.approx(interpolated_eer(labels[drawn], scores[drawn]), abs=1e-6)


def test_class_scores_of_two_classes_rank_by_their_difference() -> None:
    scores, labels = problem()
    both = np.stack([np.full_like(scores, 2.0), scores], axis=1)

    assert evaluate(METRICS["auc"], {"o": both}, labels).value == auc(scores, labels)(np.ones(300))
    assert evaluate(METRICS["auc"], {"o": scores[:, None]}, labels).value == auc(scores, labels)(np.ones(300))


def test_embeddings_are_judged_by_pairs_of_samples() -> None:
    from sklearn.metrics import roc_auc_score

    embeddings, labels = speakers()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(len(labels)) for j in range(i)]
    same = np.array([labels[i] == labels[j] for i, j in pairs])
    cosines = np.array([unit[i] @ unit[j] for i, j in pairs])

    assert evaluate(METRICS["auc"], {"o": embeddings}, labels).value == pytest.approx(roc_auc_score(same, cosines))
    assert -evaluate(METRICS["eer"], {"o": embeddings}, labels).value == pytest.approx(
        interpolated_eer(same, cosines), abs=1e-6
    )


def test_a_sample_that_was_drawn_twice_is_no_pair_with_itself() -> None:
    embeddings, labels = speakers(people=2, each=2)

    assert np.isnan(auc(embeddings, labels)(np.array([2, 0, 2, 0]))), "no pair of one speaker"


@pytest.mark.parametrize("metric", ["auc", "eer"])
def test_the_drop_is_bootstrapped_in_pairs(metric: str) -> None:
    embeddings, labels = speakers(noise=1.0)
    random = np.random.default_rng(1)
    near, far = (embeddings + noise * random.normal(size=embeddings.shape) for noise in (1e-4, 3.0))
    results = [
        accuracy_result(
            METRICS[metric], {"o": arm}, {"o": embeddings}, labels, allowed_drop=0.02, reference_name="float"
        )
        for arm in (near, far)
    ]

    assert [result.outcome for result in results] == [Outcome.PASS, Outcome.FAIL]
    assert results[0].drop.high - results[0].drop.low < 0.2 * (results[0].value.high - results[0].value.low)


def test_draws_without_a_positive_sample_are_drawn_again() -> None:
    scores, labels = np.arange(40.0), np.zeros(40, np.int64)
    labels[[3, 37]] = 1

    result = accuracy_result(
        METRICS["auc"], {"o": scores}, {"o": scores}, labels, allowed_drop=0.02, reference_name="float"
    )

    assert np.isfinite([result.value.low, result.value.high]).all()
    assert result.value.high - result.value.low > 0.5, "two positives tell little"


@pytest.mark.slow
def test_the_interval_of_a_drop_covers_what_is_true() -> None:
    """The true drop, from many samples, lies in the 95 % interval in at least 90 % of 100 experiments."""

    def arms(count: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
        labels = (random.random(count) < 0.5).astype(np.int64)
        reference = random.normal(size=count) + labels
        return reference, reference + 0.7 * random.normal(size=count), labels

    random = np.random.default_rng(0)
    reference, candidate, labels = arms(200_000, random)
    for measure in (auc, eer):
        true = measure(reference, labels)(np.ones(200_000)) - measure(candidate, labels)(np.ones(200_000))
        covered = 0
        for seed in range(100):
            ours, other, own = arms(100, random)
            name = measure.__name__
            found = accuracy_result(
                METRICS[name], {"o": other}, {"o": ours}, own, allowed_drop=0.1, reference_name="float", seed=seed
            ).drop
            covered += found.low <= true <= found.high
        assert covered >= 90


@pytest.mark.parametrize(
    ("output", "target", "found"),
    [
        pytest.param(np.arange(3.0), np.array([1, 1, 1]), "all of them positive", id="only positives"),
        pytest.param(np.arange(3.0), np.array([0, 1, 2]), "labels from 0 to 2", id="three classes"),
        pytest.param(np.arange(3.0), np.array([0.5, 1, 0]), "float64", id="half a label"),
        pytest.param(np.arange(3.0), np.array(["a", "b", "a"]), "<U1", id="text"),
        pytest.param(np.eye(3), np.array([0, 1, 2]), "all of them negative", id="nobody twice"),
        pytest.param(np.eye(3), np.array([1, 1, 1]), "all of them positive", id="one speaker"),
    ],
)
def test_what_can_not_be_ranked_is_said(output: Array, target: Array, found: str) -> None:
    for metric in ("auc", "eer"):
        with pytest.raises(SamplesError) as caught:
            evaluate(METRICS[metric], {"o": output}, target)
        assert found in caught.value.found
