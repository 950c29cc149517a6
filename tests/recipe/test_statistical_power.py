"""What samples and rounds can't prove is said by the recipe, with the numbers that the judges use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeport.accuracy import accuracy_result, least_samples, metric_named
from edgeport.contracts import Outcome, TensorSpec
from edgeport.contracts.recipe import LEAST_ROUNDS
from edgeport.devices.latency.comparison import paired_interval
from edgeport.recipe import explain, load_recipe, schema
from edgeport.recipe.statistical_power import evaluation_count, least_p_value, thin_evidence

LABELLED = """\
model.source = "net:create"
data.calibration = "calibration.npz"
data.evaluation = "evaluation.npz"
data.target = "label"
"""


@pytest.fixture
def evaluation(folder: Path) -> Callable[[int], None]:
    def evaluation(count: int) -> None:
        np.savez(folder / "evaluation.npz", image=np.zeros((count, 3), np.float32), label=np.zeros(count, np.int64))

    return evaluation


@pytest.mark.parametrize("drop", [0.005, 0.01, 0.02, 0.3])
def test_the_number_of_samples_is_the_one_at_which_equal_answers_pass(drop: float) -> None:
    needed = least_samples(drop)
    assert needed is not None

    def outcome(count: int) -> Outcome:
        scores = np.tile(np.float32([1, 0]), (count, 1))
        return accuracy_result(
            metric_named("top1"),
            {"o": scores},
            {"o": scores},
            np.zeros(count, np.int64),
            allowed_drop=drop,
            reference_name="itself",
        ).outcome

    assert outcome(needed) is Outcome.PASS
    assert outcome(needed - 1) is Outcome.INCONCLUSIVE


def test_a_percent_needs_381_samples_as_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")

    assert least_samples(0.01) == 381
    assert "a drop of 0.01 needs 381 samples" in page


def test_agreement_counts_answers_only_where_outputs_are_class_scores(write, folder, evaluation) -> None:
    evaluation(50)
    recipe = load_recipe(write(LABELLED + 'data.metric = "agreement"\n'))
    scores, age = (TensorSpec(name="o", dtype="float32", shape=("batch", classes)) for classes in (10, 1))

    assert "where outputs are class scores: 381 or more" in thin_evidence(recipe, 50)
    assert "if no answer changes: 381 or more" in thin_evidence(recipe, 50, scores)
    assert thin_evidence(recipe, 50, age) == ""


def test_a_model_that_came_quantized_is_not_told_of_other_candidates(write, evaluation) -> None:
    evaluation(50)
    recipe = load_recipe(write(LABELLED + '[[target]]\nbackend = "openvino"\nprecisions = ["fp32"]\n'))

    assert thin_evidence(recipe, 50) == ""
    said = thin_evidence(recipe, 50, quantized=True)
    assert "The model came quantized" in said
    assert "Candidates other than fp32" not in said


def test_no_number_of_samples_proves_that_nothing_is_lost() -> None:
    assert least_samples(0.0) is None


def test_explain_says_that_samples_are_too_few(write: Callable[[str], Path], evaluation: Callable[[int], None]) -> None:
    evaluation(380)
    said = explain(load_recipe(write(LABELLED))).splitlines()[-1]
    evaluation(381)
    enough = explain(load_recipe(write(LABELLED)))

    assert said.startswith("# note: 380 evaluation samples can't prove that top1 drops by 0.01 at most")
    assert "381 or more are needed" in said
    assert "# note" not in enough


@pytest.mark.parametrize(
    ("more", "silent"),
    [
        pytest.param("", False, id="top1"),
        pytest.param('data.metric = "agreement"\n', False, id="agreement"),
        pytest.param("budget.accuracy_drop = 0.02\n", False, id="larger-budget"),
        pytest.param("budget.accuracy_drop = 0.3\n", True, id="so-large-that-few-do"),
        pytest.param('data.metric = "cosine"\n', True, id="no-proportion"),
        pytest.param('data.metric = "own:metric"\n', True, id="own-metric"),
        pytest.param('[[target]]\nbackend = "openvino"\nprecisions = ["fp32"]\n', True, id="nothing-to-prove"),
        pytest.param('[[target]]\nbackend = "openvino"\nprecisions = ["bf16"]\n', False, id="bf16"),
    ],
)
def test_only_what_must_be_proven_is_warned_of(write: Callable[[str], Path], more: str, silent: bool) -> None:
    recipe = load_recipe(write(LABELLED + more))

    assert (thin_evidence(recipe, 100) == "") == silent


def test_samples_of_a_function_are_not_counted_beforehand(write: Callable[[str], Path], folder: Path) -> None:
    assert evaluation_count(load_recipe(write(LABELLED)).data) == 2
    given = write(LABELLED.replace("evaluation.npz", "no.such.module:samples"))
    assert evaluation_count(load_recipe(given).data) is None
    (folder / "evaluation.npz").write_bytes(b"no npz")
    assert evaluation_count(load_recipe(write(LABELLED)).data) is None


def test_the_least_rounds_are_those_whose_interval_is_finite() -> None:
    _, low, high = paired_interval(np.linspace(0.1, 0.2, LEAST_ROUNDS))
    _, lower, higher = paired_interval(np.linspace(0.1, 0.2, LEAST_ROUNDS - 1))

    assert np.isfinite([low, high]).all()
    assert np.isinf([lower, higher]).all()
    assert least_p_value(LEAST_ROUNDS) <= 0.05 < least_p_value(LEAST_ROUNDS - 1)
    assert schema()["$defs"]["SearchSection"]["properties"]["rounds"]["minimum"] == LEAST_ROUNDS


def test_a_number_as_axis_0_fixes_the_batch(write: Callable[[str], Path]) -> None:
    free = load_recipe(write(LABELLED + '[inputs.image]\nshape = ["batch", 3]\n'))
    fixed = load_recipe(write(LABELLED + "[inputs.image]\nshape = [4, 3]\n"))

    assert free.export.dynamic_batch
    assert not fixed.export.dynamic_batch
    assert load_recipe(write(explain(fixed))) == fixed
