"""Sets that are unlike are said to be; equal distributions never are."""

import numpy as np
import pytest

from edgeport.calibration.data import ArraySamples, Profile, check_samples, lint_labels, lint_unlike
from edgeport.contracts import TensorSpec


def looks(array, dtype="float32"):
    spec = TensorSpec(name="x", dtype=dtype, shape=("batch", *array.shape[1:]))
    found = {"x": Profile()}
    check_samples(ArraySamples({"x": array}, batch_size=7), (spec,), observers=found)
    return found


def drawn(seed, n=100, shape=(3, 8, 8)):
    """Images whose brightness and contrast differ from one to the next, as photographs' do."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(n, *shape)) * random.uniform(0.3, 1, (n, 1, 1, 1)) + random.normal(size=(n, 1, 1, 1))
    return base.astype(np.float32)


def test_equal_distributions_give_no_alarm():
    random = np.random.default_rng(0)
    for seed in range(150):
        one, other = (int(count) for count in random.integers(4, 300, 2))
        assert lint_unlike(looks(drawn(seed, one)), looks(drawn(1000 + seed, other))) == []


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        pytest.param(drawn(0) * 255, "the standard deviation of a sample is", id="another scale"),
        pytest.param(drawn(0) + 3, "of a sample is", id="another mean"),
        pytest.param(np.clip(drawn(0), 0, 1), "the smallest value of a sample is 0 here", id="clipped"),
        pytest.param(np.random.default_rng(0).normal(size=(100, 3, 8, 8)).astype(np.float32), "are both", id="noise"),
    ],
)
def test_another_preprocessing_is_said(calibration, says):
    lints = lint_unlike(looks(calibration), looks(drawn(1)))

    assert [lint.code for lint in lints] == ["UNLIKE_EVALUATION"]
    assert says in lints[0].message
    assert lints[0].input == "x"


def test_what_is_certain_but_small_is_not_said():
    assert lint_unlike(looks(drawn(0, 6000, (1, 2, 2))), looks(drawn(1, 6000, (1, 2, 2)) + 0.2)) == []


def test_integers_are_compared_too():
    random = np.random.default_rng(0)
    one, other = random.integers(0, 100, (80, 16)), random.integers(5000, 9000, (80, 16))

    assert lint_unlike(looks(one, "int64"), looks(other, "int64"))[0].code == "UNLIKE_EVALUATION"
    assert lint_unlike(looks(one[:40], "int64"), looks(one[40:], "int64")) == []


LABELS = [
    pytest.param(np.arange(60) % 6, (), "top1", "", id="all alike"),
    pytest.param(np.arange(60) % 5, tuple("abcdef"), "top1", "no sample of 1 of 6 classes ('f')", id="one missing"),
    pytest.param(np.arange(60) % 5 * 2, (), "top1", "no sample of 4 of 9 classes (1, 3, 5, ...)", id="gaps"),
    pytest.param(np.arange(10), tuple("abcdefghijklmnopqrst"), "top1", "", id="few samples"),
    pytest.param(np.array([1] * 90 + [0] * 10), (), "top1", "90 of 100 labels are 1: always", id="one class"),
    pytest.param(np.array([1] * 90 + [0] * 10), (), "cosine", "", id="another metric"),
    pytest.param(np.array([1] * 3 + [0] * 97), (), "auc", "3 of 100 samples are positive", id="few positives"),
    pytest.param(np.array([1] * 99 + [0]), (), "eer", "1 of 100 samples is negative", id="one negative"),
    pytest.param(np.arange(60) % 6, (), "eer", "", id="speakers"),
    pytest.param(np.linspace(0, 1, 50), (), "top1", "", id="values"),
    pytest.param(np.array([1, 2, 2**40]), (), "top1", "", id="identifiers"),
]


@pytest.mark.parametrize(("labels", "classes", "metric", "says"), LABELS)
def test_odd_labels_are_said_where_they_matter(labels, classes, metric, says):
    message = " ".join(lint.message for lint in lint_labels(labels, classes, metric))

    assert says in message if says else message == ""


def test_what_comes_after_the_first_20_000_samples_is_not_kept():
    profile = Profile()
    for _ in range(3):
        profile.add(np.zeros((8000, 2), np.float32))
    profile.add(np.zeros((1, 2), np.float32))
    assert len(profile.features) == 20_000
