from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeport.accuracy import METRICS, evaluate, metric_named
from edgeport.errors import SamplesError, SourceError, UsageError

LOGITS = np.array([[0.1, 0.7, 0.2], [0.9, 0.0, 0.1], [0.2, 0.2, 0.6]], np.float32)


def test_top1_and_agreement_count_the_right_ones() -> None:
    found = evaluate(METRICS["top1"], {"o": LOGITS}, np.array([1, 1, 2]))

    assert found.scores is not None
    assert found.scores.tolist() == [1, 0, 1]
    assert found.value == pytest.approx(2 / 3)
    assert evaluate(METRICS["agreement"], {"o": LOGITS}, LOGITS * 2 + 1).value == 1


def test_top5_needs_the_label_among_five() -> None:
    output = np.tile(np.arange(8.0), (8, 1))

    found = evaluate(METRICS["top5"], {"o": output}, np.arange(8))

    assert found.scores is not None
    assert found.scores.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, bool])
def test_one_hot_rows_are_class_indices(dtype: type) -> None:
    labels = np.array([1, 0, 2])

    found = evaluate(METRICS["top1"], {"o": LOGITS}, np.eye(3, dtype=dtype)[labels])

    assert found.value == evaluate(METRICS["top1"], {"o": LOGITS}, labels).value == 1


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.full((3, 3), 1 / 3), id="soft"),
        pytest.param(np.ones((3, 3)), id="all-ones"),
        pytest.param(np.zeros((3, 3)), id="no-one"),
        pytest.param(np.eye(4)[:3], id="another-number"),
    ],
)
def test_other_rows_are_no_labels(rows: np.ndarray) -> None:
    with pytest.raises(SamplesError, match="one class index per sample, 0 to 2, or one-hot rows of 3"):
        evaluate(METRICS["top1"], {"o": LOGITS}, rows)


def test_a_constant_output_is_never_right() -> None:
    assert evaluate(METRICS["top1"], {"o": np.zeros((4, 10))}, np.zeros(4, int)).value == 0


def test_errors_are_negated_so_that_higher_is_better() -> None:
    outputs, target = {"o": np.array([[1.0, 2.0], [3.0, 3.0]])}, np.array([[1.0, 4.0], [3.0, 3.0]])

    assert evaluate(METRICS["mae"], outputs, target).value == -0.5
    assert evaluate(METRICS["mse"], outputs, target).value == -1.0


def test_sqnr_is_in_decibels_and_ends_at_float32() -> None:
    target = np.ones((2, 10))

    assert evaluate(METRICS["sqnr"], {"o": target * 1.01}, target).value == pytest.approx(40)
    assert evaluate(METRICS["sqnr"], {"o": target}, target).value == 150


def test_correlations_are_as_in_scipy() -> None:
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, 50).astype(float)
    output = truth + rng.normal(size=50)

    assert evaluate(METRICS["spearman"], {"o": output[:, None]}, truth).value == pytest.approx(
        spearmanr(output, truth).statistic
    )
    assert evaluate(METRICS["pearson"], {"o": output}, truth).value == pytest.approx(pearsonr(output, truth).statistic)
    assert evaluate(METRICS["pearson"], {"o": np.ones(50)}, truth).value == 0


@given(arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
def test_nothing_is_better_than_the_truth_itself(truth: np.ndarray) -> None:
    noisy = truth + np.float32(0.5)
    for name in ("mae", "mse", "cosine", "sqnr"):
        best = evaluate(METRICS[name], {"o": truth}, truth).value
        assert evaluate(METRICS[name], {"o": noisy}, truth).value <= best + 1e-12


@pytest.mark.parametrize(
    ("metric", "output", "target", "found"),
    [
        pytest.param("top1", np.zeros((3, 1)), np.zeros(3, int), "[3, 1]", id="one-class"),
        pytest.param("top1", np.zeros((3, 4, 5)), np.zeros(3, int), "[3, 4, 5]", id="map-of-classes"),
        pytest.param("top1", LOGITS, np.array([0, 1, 3]), "from 0 to 3", id="label-out-of-range"),
        pytest.param("top1", LOGITS, np.array([0.5, 1, 2]), "float64", id="label-between-classes"),
        pytest.param("top1", LOGITS, np.array(["a", "b", "c"]), "<U1", id="text-labels"),
        pytest.param("top1", LOGITS, np.array([0, 1]), "[2]", id="too-few-labels"),
        pytest.param("mae", LOGITS, np.zeros(3), "[3]", id="target-of-other-shape"),
        pytest.param("mae", np.zeros((2, 3, 4)), np.zeros((2, 4, 3)), "[2, 4, 3]", id="axes-in-another-order"),
        pytest.param("pearson", LOGITS, LOGITS, "3 values each", id="correlation-of-vectors"),
        pytest.param("cosine", LOGITS[:0], LOGITS[:0], "[0, 3]", id="no-samples"),
    ],
)
def test_what_does_not_fit_is_said(metric: str, output: np.ndarray, target: np.ndarray, found: str) -> None:
    with pytest.raises(SamplesError) as caught:
        evaluate(METRICS[metric], {"o": output}, target)

    assert found in caught.value.found


def test_the_judged_output_is_the_first_or_the_named() -> None:
    outputs = {"a": np.zeros((3, 3)), "b": LOGITS}
    labels = np.array([1, 0, 2])

    assert evaluate(METRICS["top1"], outputs, labels).value == 0
    assert evaluate(METRICS["top1"], outputs, labels, output="b").value == 1
    with pytest.raises(SamplesError, match="'a', 'b'"):
        evaluate(METRICS["top1"], outputs, labels, output="c")


def test_a_function_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "own_metric_for_test.py").write_text(
        "def right(output, target):\n    return output.argmax(axis=1) == target\nnumber = 3\n", encoding="utf-8"
    )

    metric = metric_named("own_metric_for_test:right", search_path=tmp_path)

    assert evaluate(metric, {"o": LOGITS}, np.array([1, 0, 0])).value == pytest.approx(2 / 3)
    for wrong in ("own_metric_for_test:number", "own_metric_for_test:left", "no_such_module_for_test:fn"):
        with pytest.raises(SourceError):
            metric_named(wrong, search_path=tmp_path)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        metric_named("tpo1")

    assert caught.value.fix == "did you mean 'top1'?"
