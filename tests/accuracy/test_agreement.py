"""Agreement with the float model has a value for every kind of output, and 1 for equal ones."""

from dataclasses import dataclass

import numpy as np
import pytest

from edgeport.accuracy import METRICS, accuracy_result, evaluate
from edgeport.contracts import Array, Outcome

RANDOM = np.random.default_rng(0)


@dataclass(frozen=True, kw_only=True)
class Kind:
    id: str
    output: Array


KINDS = [
    Kind(id="class scores", output=RANDOM.normal(size=(50, 10)).astype(np.float32)),
    Kind(id="regression", output=RANDOM.normal(size=50)),
    Kind(id="regression [N, 1]", output=40 + RANDOM.normal(size=(50, 1)).astype(np.float32)),
    Kind(id="feature map", output=RANDOM.normal(size=(50, 3, 4, 5)).astype(np.float16)),
    Kind(id="token scores", output=RANDOM.normal(size=(50, 7, 20)).astype(np.float32)),
    Kind(id="detections", output=RANDOM.uniform(0, 640, (50, 12, 6)).astype(np.float32)),
    Kind(id="token ids", output=RANDOM.integers(0, 9, (50, 7))),
    Kind(id="classes", output=RANDOM.integers(0, 9, 50)),
    Kind(id="mask", output=RANDOM.random((50, 8, 8)) > 0.5),
    Kind(id="strings", output=np.array(["yes", "no"] * 25)),
    Kind(id="constant", output=np.full((50, 1), 3.0)),
    Kind(id="zero", output=np.zeros((50, 1, 2))),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_equal_outputs_agree_and_others_less(kind: Kind) -> None:
    metric = METRICS["agreement"]
    other = np.roll(kind.output, 1, axis=0) if len(np.unique(kind.output)) > 1 else kind.output + 3

    assert evaluate(metric, {"o": kind.output}, kind.output).value == 1
    assert evaluate(metric, {"o": other}, kind.output).value < 0.7


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_every_kind_gets_a_verdict(kind: Kind) -> None:
    outputs = {"o": kind.output}
    result = accuracy_result(METRICS["agreement"], outputs, outputs, None, allowed_drop=0.1, reference_name="float")

    assert result.outcome is Outcome.PASS
    assert result.drop.estimate == 0


def test_regression_is_the_coefficient_of_determination() -> None:
    from sklearn.metrics import r2_score

    truth = 40 + RANDOM.normal(size=(200, 1))
    output = truth + 0.3 * RANDOM.normal(size=truth.shape)
    vectors = RANDOM.normal(size=(60, 3, 4)) * [1, 10, 100, 1000]
    noisy = vectors + RANDOM.normal(size=vectors.shape)

    assert evaluate(METRICS["agreement"], {"o": output}, truth).value == pytest.approx(r2_score(truth, output))
    pooled = r2_score(vectors.reshape(60, -1), noisy.reshape(60, -1), multioutput="variance_weighted")
    assert evaluate(METRICS["agreement"], {"o": noisy}, vectors).value == pytest.approx(pooled)


def test_a_large_constant_hides_no_error() -> None:
    age = 50 + 5 * RANDOM.normal(size=(300, 1))

    assert evaluate(METRICS["agreement"], {"o": np.full_like(age, 50)}, age).value < 0.1


def test_masked_scores_of_both_models_are_equal() -> None:
    scores = RANDOM.normal(size=(20, 4, 6))
    scores[:, :, 5] = -np.inf

    assert evaluate(METRICS["agreement"], {"o": scores}, scores).value == 1


def test_tokens_count_by_their_share() -> None:
    reference = np.zeros((2, 4), np.int64)
    output = np.array([[0, 0, 0, 1], [0, 0, 0, 0]])

    found = evaluate(METRICS["agreement"], {"o": output}, reference)

    assert found.scores is not None
    assert found.scores.tolist() == [0.75, 1]
    assert not found.right_or_wrong
