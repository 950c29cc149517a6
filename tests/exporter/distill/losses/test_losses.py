"""Every term against the same formula in numpy, written from the papers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgeport.errors import DistillationError
from edgeport.exporter.distill.losses.feature import (
    Attention,
    Hints,
    Relational,
    attention_difference,
    relational_angle,
    relational_distance,
)
from edgeport.exporter.distill.losses.regularizers import ActivityPenalty, ConfidencePenalty, confidence_penalty
from edgeport.exporter.distill.losses.response import (
    CosineDistance,
    Decoupled,
    OutputDifference,
    SoftTargets,
    cosine_distance,
    decoupled,
)
from edgeport.exporter.distill.losses.task import Callback, CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import BatchOutputs, Objective, Tap, key_of
from edgeport.exporter.train.teacher_losses import output_difference, soft_targets

RANDOM = np.random.default_rng(0)
STUDENT, TEACHER = RANDOM.standard_normal((2, 6, 5)) * 3
LABELS = np.array([0, 4, 2, 2, 1, 3])


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def kl(wanted: np.ndarray, found: np.ndarray) -> float:
    return float((wanted * (np.log(wanted) - np.log(found))).sum())


def seen(
    student: np.ndarray = STUDENT, teacher: np.ndarray = TEACHER, labels: np.ndarray | None = LABELS
) -> BatchOutputs:
    return BatchOutputs(
        student={"output": tensor(student)},
        teacher={"output": tensor(teacher)},
        labels=None if labels is None else torch.from_numpy(labels),
    )


def test_soft_targets() -> None:
    wanted = 3.0**2 * np.mean([kl(t, s) for s, t in zip(softmax(STUDENT / 3), softmax(TEACHER / 3), strict=True)])

    assert float(soft_targets(tensor(STUDENT), tensor(TEACHER), 3.0)) == pytest.approx(wanted, rel=1e-5)
    assert float(SoftTargets(temperature=3.0).loss(seen())) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("axis", [1, -1], ids=["pixels", "tokens"])
def test_of_places_the_mean_counts_so_that_terms_weigh_as_they_say(axis: int) -> None:
    """Three places of two samples are six rows."""
    labels = torch.from_numpy(LABELS).reshape(2, 3)
    student, teacher = (tensor(one).reshape(2, 3, 5).movedim(-1, axis) for one in (STUDENT, TEACHER))
    places = BatchOutputs(student={"output": student}, teacher={"output": teacher}, labels=labels)

    for row, term in (
        (SoftTargets(), SoftTargets(axis=axis)),
        (CrossEntropy(smoothing=0.1), CrossEntropy(smoothing=0.1, axis=axis)),
        (ConfidencePenalty(), ConfidencePenalty(axis=axis)),
    ):
        assert float(term.loss(places)) == pytest.approx(float(row.loss(seen())), rel=1e-5)


def test_decoupled() -> None:
    each = []
    for s, t, label in zip(softmax(STUDENT / 2), softmax(TEACHER / 2), LABELS, strict=True):
        target = kl(np.array([t[label], 1 - t[label]]), np.array([s[label], 1 - s[label]]))
        others = kl(np.delete(t, label) / (1 - t[label]), np.delete(s, label) / (1 - s[label]))
        each.append(2.0**2 * (1.5 * target + 6.0 * others))

    found = decoupled(tensor(STUDENT), tensor(TEACHER), torch.from_numpy(LABELS), alpha=1.5, beta=6.0, temperature=2.0)

    assert float(found) == pytest.approx(np.mean(each), rel=1e-4)
    term = Decoupled(alpha=1.5, beta=6.0, temperature=2.0)
    assert float(term.loss(seen())) == pytest.approx(np.mean(each), rel=1e-4)


def test_decoupled_and_soft_targets_agree_where_the_paper_says_so() -> None:
    """KD = TCKD + (1 - p) NCKD, equation 6, for one sample."""
    student, teacher = tensor(STUDENT[:1]), tensor(TEACHER[:1])
    rest = 1 - softmax(TEACHER[:1])[0, LABELS[0]]

    found = decoupled(student, teacher, torch.tensor(LABELS[:1]), alpha=1.0, beta=float(rest), temperature=1.0)

    assert float(found) == pytest.approx(float(soft_targets(student, teacher, 1.0)), rel=1e-4)


def test_output_difference() -> None:
    wanted = np.mean((STUDENT - TEACHER) ** 2)

    assert float(output_difference(tensor(STUDENT), tensor(TEACHER), relative=False)) == pytest.approx(wanted, rel=1e-5)
    relative = wanted / np.mean(TEACHER**2)
    assert float(OutputDifference(relative=True).loss(seen())) == pytest.approx(relative, rel=1e-5)


def test_output_difference_of_several_outputs_is_their_mean() -> None:
    both = BatchOutputs(
        student={"box": tensor(STUDENT), "score": tensor(STUDENT[:, :2]), "index": torch.arange(6)},
        teacher={"box": tensor(TEACHER), "score": tensor(TEACHER[:, :2]), "index": torch.arange(6)},
    )
    wanted = (np.mean((STUDENT - TEACHER) ** 2) + np.mean((STUDENT - TEACHER)[:, :2] ** 2)) / 2

    assert float(OutputDifference().loss(both)) == pytest.approx(wanted, rel=1e-5)


def test_the_only_floats_are_compared_whatever_stands_before_them() -> None:
    both = BatchOutputs(
        student={"index": torch.arange(6), "box": tensor(STUDENT)},
        teacher={"index": torch.arange(6), "box": tensor(TEACHER)},
    )

    assert float(OutputDifference().loss(both)) == pytest.approx(np.mean((STUDENT - TEACHER) ** 2), rel=1e-5)


@pytest.mark.parametrize("term", [SoftTargets(), OutputDifference(), CosineDistance(), Relational()])
def test_outputs_are_compared_by_name_whatever_the_order(term: object) -> None:
    other = tensor(TEACHER[::-1].copy())
    both = BatchOutputs(student={"scores": tensor(STUDENT)}, teacher={"embedding": other, "scores": tensor(TEACHER)})

    assert float(term.loss(both)) == pytest.approx(float(term.loss(seen())), rel=1e-5)


def test_cosine_distance() -> None:
    cosines = (STUDENT * TEACHER).sum(axis=1) / np.linalg.norm(STUDENT, axis=1) / np.linalg.norm(TEACHER, axis=1)

    assert float(cosine_distance(tensor(STUDENT), tensor(TEACHER))) == pytest.approx(np.mean(1 - cosines), rel=1e-4)
    assert float(CosineDistance().loss(seen())) == pytest.approx(np.mean(1 - cosines), rel=1e-4)


@pytest.mark.parametrize("tokens", [False, True], ids=["images", "tokens"])
def test_attention(tokens: bool) -> None:
    student, teacher = RANDOM.standard_normal((4, 3, 5, 2)), RANDOM.standard_normal((4, 7, 5, 2))

    def attention(feature: np.ndarray) -> np.ndarray:
        maps = (feature**2).sum(axis=1).reshape(len(feature), -1)
        return maps / np.linalg.norm(maps, axis=1, keepdims=True)

    wanted = np.mean(((attention(student) - attention(teacher)) ** 2).sum(axis=1))
    given = [tensor(one) for one in (student, teacher)]
    if tokens:
        given = [one.flatten(2).transpose(1, 2) for one in given]

    assert float(attention_difference(*given)) == pytest.approx(wanted, rel=1e-4)


def huber(difference: np.ndarray | float) -> np.ndarray:
    size = np.abs(difference)
    return np.where(size <= 1, 0.5 * size**2, size - 0.5)


def test_relational_distance() -> None:
    student, teacher = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal((5, 2, 2)) * 7
    pairs = list(itertools.permutations(range(5), 2))

    def distances(feature: np.ndarray) -> np.ndarray:
        found = np.array([np.linalg.norm((feature[a] - feature[b]).ravel()) for a, b in pairs])
        return found / found.mean()

    wanted = huber(distances(student) - distances(teacher)).mean()

    assert float(relational_distance(tensor(student), tensor(teacher))) == pytest.approx(wanted, rel=1e-4)


def test_relational_angle() -> None:
    student, teacher = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal((5, 2, 2)) * 7

    def cosine(feature: np.ndarray, at: int, one: int, other: int) -> float:
        left, right = (feature[one] - feature[at]).ravel(), (feature[other] - feature[at]).ravel()
        if not left.any() or not right.any():
            return 0.0
        return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))

    triplets = list(itertools.product(range(5), repeat=3))
    wanted = np.mean([huber(cosine(student, *one) - cosine(teacher, *one)) for one in triplets])

    assert float(relational_angle(tensor(student), tensor(teacher))) == pytest.approx(wanted, rel=1e-4)


def test_relational_of_outputs_and_its_gradient_where_samples_are_equal() -> None:
    student = tensor(np.repeat(STUDENT[:3], 2, axis=0)).requires_grad_()
    both = BatchOutputs(student={"output": student}, teacher={"output": tensor(TEACHER[:, :3])})

    loss = Relational(distance=2.0, angle=0.5).loss(both)
    loss.backward()

    wanted = 2.0 * relational_distance(student, tensor(TEACHER[:, :3]))
    wanted = wanted + 0.5 * relational_angle(student, tensor(TEACHER[:, :3]))
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()))
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    with pytest.raises(DistillationError, match="a batch of 2"):
        Relational().loss(seen(STUDENT[:2], TEACHER[:2]))


def test_hints_are_relative_differences_behind_the_projection() -> None:
    term = Hints(taps=(Tap(student="a", teacher="b"), Tap(student="c", teacher="b")))
    projected, feature = RANDOM.standard_normal((2, 4, 3, 2, 2))
    features = {key_of(term, tap): tensor(projected) * (1 + index) for index, tap in enumerate(term.taps)}

    found = term.loss(BatchOutputs(student={}, features=features, taught={"b": tensor(feature)}))

    errors = [np.mean((projected * scale - feature) ** 2) / np.mean(feature**2) for scale in (1, 2)]
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-5)


def test_labels_of_tokens_tell_that_their_classes_are_the_last_axis() -> None:
    scores = RANDOM.standard_normal((2, 6, 7, 5))
    given = seen(*scores, labels=RANDOM.integers(0, 5, (6, 7)))

    with pytest.raises(DistillationError, match=r"SoftTargets.*classes on axis 1.*axis=-1"):
        SoftTargets().loss(given)
    assert float(SoftTargets(axis=-1).loss(given)) > 0
    assert float(SoftTargets().loss(seen(*scores, labels=None))) > 0  # channels first, for all that can be told


@pytest.mark.parametrize("term", [Hints, Attention])
def test_that_three_axes_are_tokens_is_said_where_channels_of_a_signal_differ(term: type) -> None:
    with pytest.raises(DistillationError, match=r"\[2, 4, 12\] .* tokens \[N, T, D\].*Relational compares"):
        term(taps=(Tap(student="a", teacher="a"),)).adapter(torch.zeros(2, 4, 12), torch.zeros(2, 8, 12))


def test_regularisers() -> None:
    scores = softmax(STUDENT)
    assert float(confidence_penalty(tensor(STUDENT))) == pytest.approx(
        float((scores * np.log(scores)).sum(axis=1).mean()), rel=1e-5
    )
    assert float(ConfidencePenalty().loss(seen())) == pytest.approx(float(confidence_penalty(tensor(STUDENT))))
    assert float(ActivityPenalty().loss(seen())) == pytest.approx(np.mean(STUDENT**2), rel=1e-5)
    term = ActivityPenalty(modules=("a",))
    inside = BatchOutputs(student={}, features={key_of(term, term.taps[0]): tensor(TEACHER)})
    assert float(term.loss(inside)) == pytest.approx(np.mean(TEACHER**2), rel=1e-5)


def test_labels() -> None:
    scores = softmax(STUDENT)
    right = -np.log(scores[np.arange(6), LABELS])
    assert float(CrossEntropy().loss(seen())) == pytest.approx(right.mean(), rel=1e-5)
    smooth = 0.8 * right - 0.2 * np.log(scores).mean(axis=1)
    assert float(CrossEntropy(smoothing=0.2).loss(seen())) == pytest.approx(smooth.mean(), rel=1e-5)
    flat = seen(STUDENT[:, :1], labels=LABELS)
    assert float(SquaredError().loss(flat)) == pytest.approx(np.mean((STUDENT[:, 0] - LABELS) ** 2), rel=1e-5)


def test_the_objective_is_l_and_lambda_r() -> None:
    objective = Objective(
        L=(CrossEntropy(weight=0.1), SoftTargets(weight=0.9), SoftTargets(weight=0.5, temperature=1.0)),
        R=(ConfidencePenalty(weight=2.0),),
        lambda_=0.01,
    )

    losses = objective(seen())

    parts = {name: float(value) for name, value in losses.parts.items()}
    assert list(parts) == ["L.CrossEntropy", "L.SoftTargets", "L.SoftTargets-2", "R.ConfidencePenalty"]
    first, second, third, last = parts.values()
    assert float(losses.total) == pytest.approx(0.1 * first + 0.9 * second + 0.5 * third + 0.01 * 2.0 * last)
    assert objective.said() == "0.1 CrossEntropy + 0.9 SoftTargets + 0.5 SoftTargets + 0.01 (2 ConfidencePenalty)"
    off = Objective(L=(CrossEntropy(),), R=(ConfidencePenalty(),), lambda_=0.0)
    assert float(off(seen()).total) == pytest.approx(first)


@pytest.mark.parametrize(
    ("term", "given", "says"),
    [
        pytest.param(SoftTargets(), seen(teacher=TEACHER[:, :3]), r"shapes \[6, 5\] and \[6, 3\]", id="other classes"),
        pytest.param(SoftTargets(output="boxes"), seen(), "output 'boxes' of the student", id="no output"),
        pytest.param(
            OutputDifference(),
            BatchOutputs(student={"a": torch.zeros(2, 3), "b": torch.zeros(2)}, teacher={"a": torch.zeros(2, 3)}),
            "output 'b' of student and teacher.*outputs a, b of the student, a of the teacher.*under one name",
            id="outputs of other names",
        ),
        pytest.param(SoftTargets(), seen(STUDENT[:, :1], TEACHER[:, :1]), "OutputDifference", id="no classes"),
        pytest.param(SoftTargets(), BatchOutputs(student=seen().student), "no teacher", id="no teacher"),
        pytest.param(CrossEntropy(), seen(labels=None), "samples without labels", id="no labels"),
        pytest.param(SquaredError(), seen(), r"labels \[6\]", id="labels of another shape"),
        pytest.param(
            SquaredError(),
            BatchOutputs(student={"box": torch.zeros(2, 3, 4)}, labels=torch.zeros(2, 4, 3)),
            r"\[2, 3, 4\] and labels \[2, 4, 3\]",
            id="values in another order",
        ),
        pytest.param(CrossEntropy(), seen(labels=LABELS + 0.5), "labels of torch.float64", id="no classes in labels"),
        pytest.param(CrossEntropy(), seen(labels=LABELS + 5), "labels of 5 to 9 for 5 classes", id="too many classes"),
        pytest.param(Decoupled(), seen(labels=LABELS[:, None]), r"labels of torch.int64 \[6, 1\]", id="label columns"),
        pytest.param(CosineDistance(), seen(STUDENT[:, 0], TEACHER[:, 0]), "embeddings", id="no embedding"),
        pytest.param(ConfidencePenalty(), seen(STUDENT[:, :1]), "ConfidencePenalty", id="confidence of one class"),
        pytest.param(
            OutputDifference(),
            BatchOutputs(student={"index": torch.arange(6)}),
            "no floats among index",
            id="no floats",
        ),
    ],
)
def test_what_does_not_fit_is_said(term: object, given: BatchOutputs, says: str) -> None:
    with pytest.raises(DistillationError, match=says):
        term.loss(given)


class Rows:
    """A term of a user, which gives what it is told to."""

    weight = 2.0

    def __init__(self, gives: Callable[[BatchOutputs], object]) -> None:
        self.loss = gives


@pytest.mark.parametrize("of", [Rows, lambda function: Callback(function=function)], ids=["a term", "a callback"])
@pytest.mark.parametrize(
    ("gives", "says"),
    [
        pytest.param(lambda seen: seen.output().mean(dim=1), r"gives torch.float32 \[6\]", id="rows"),
        pytest.param(lambda seen: seen.output().argmax(), r"gives torch.int64 \[\]", id="no float"),
        pytest.param(lambda seen: 1.0, "gives float", id="no tensor"),
    ],
)
def test_whatever_gives_no_loss_is_refused(of: object, gives: object, says: str) -> None:
    with pytest.raises(DistillationError, match=says):
        Objective(L=(of(gives), CrossEntropy()))(seen())


@pytest.mark.parametrize(
    ("term", "says"),
    [
        pytest.param(lambda seen: seen.output().mean(), "a function without a weight.*Callback", id="function"),
        pytest.param("soft-targets:4", "a str without a weight", id="text"),
        pytest.param(SoftTargets, r"the class SoftTargets.*SoftTargets\(...\)", id="class"),
    ],
)
def test_what_is_no_term_is_refused(term: object, says: str) -> None:
    with pytest.raises(DistillationError, match=says):
        Objective(L=(CrossEntropy(),), R=(term,))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Objective(L=()), id="nothing"),
        pytest.param(lambda: Objective(L=(CrossEntropy(weight=-1.0),)), id="negative weight"),
        pytest.param(lambda: Objective(L=(CrossEntropy(),), lambda_=-0.1), id="negative lambda"),
        pytest.param(lambda: SoftTargets(temperature=0.0), id="temperature"),
        pytest.param(lambda: CrossEntropy(smoothing=1.0), id="smoothing"),
        pytest.param(lambda: Hints(taps=()), id="no taps"),
        pytest.param(lambda: Attention(taps=(Tap(student="a"),)), id="one side"),
        pytest.param(lambda: Relational(distance=0.0, angle=0.0), id="no relation"),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(DistillationError):
        make()
