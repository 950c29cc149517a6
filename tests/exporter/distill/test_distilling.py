"""Every method helps on a small case, against itself switched off; and the way from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeport.errors import ContractError, DistillationError, EdgeportError, SamplesError, TrainingError
from edgeport.exporter.distill.distilling import born_again, distill, make_optimizer
from edgeport.exporter.distill.losses.feature import Attention, Hints, Relational
from edgeport.exporter.distill.losses.regularizers import ActivityPenalty, ConfidencePenalty
from edgeport.exporter.distill.losses.response import CosineDistance, Decoupled, OutputDifference, SoftTargets
from edgeport.exporter.distill.losses.task import Callback, CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import BatchOutputs, Objective, Tap, Term
from edgeport.exporter.distill.options import DistillOptions, DistillResult
from edgeport.exporter.distill.teacher_student import MovingAverage, Network
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.samples import LearningSamples

CLASSES = 4


class Net(torch.nn.Module):
    """Images [N, 1, 8, 8] to scores [N, 4]; what tells the class is in one corner, the rest is noise."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = torch.nn.Sequential(torch.nn.Conv2d(1, width, 3, 1, 1), torch.nn.ReLU())
        self.second = torch.nn.Sequential(torch.nn.Conv2d(width, 2 * width, 3, 2, 1), torch.nn.ReLU())
        self.head = torch.nn.Linear(2 * width * 16, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(image)).flatten(1))


def images_of(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A faint pattern in the corner [2:5, 2:5] tells the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    patterns = np.random.default_rng(99).standard_normal((CLASSES, 3, 3))
    images = random.standard_normal((count, 1, 8, 8))
    images[:, 0, 2:5, 2:5] += patterns[labels]
    return images.astype(np.float32), labels


@pytest.fixture(scope="module")
def teacher() -> Net:
    images, labels = (torch.from_numpy(one) for one in images_of(1920, seed=1))
    net = Net(6, seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-3)
    for start in (*range(0, 1920, 64), *range(0, 1920, 64)):
        loss = torch.nn.functional.cross_entropy(net(images[start : start + 64]), labels[start : start + 64])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def judged(net: torch.nn.Module) -> tuple[float, float]:
    """The part of right answers, and the cross-entropy, on other images."""
    images, labels = (torch.from_numpy(one) for one in images_of(2000, seed=2))
    with torch.no_grad():
        scores = net(images)
    top1 = float((scores.argmax(dim=1) == labels).float().mean())
    return top1, float(torch.nn.functional.cross_entropy(scores, labels))


OPTIONS = DistillOptions(
    training=TrainingSettings(epochs=60, batch_size=32, evaluate_every=60, checkpoint_every=1000, monitor="top1"),
    rate=5e-3,
    held_out=0.3,
)


def misled() -> LearningSamples:
    """Few images, a third of whose labels are wrong."""
    images, labels = images_of(140, seed=3)
    wrong = np.random.default_rng(4).random(len(labels)) < 0.3
    return LearningSamples(feeds={"image": images}, labels=np.where(wrong, (labels + 1) % CLASSES, labels))


def learned(teacher: Net | MovingAverage | None, objective: Objective, folder: Path) -> Net:
    student = Net(3, seed=5)
    given = Network(module=teacher) if isinstance(teacher, Net) else teacher
    distill(Network(module=student), given, misled(), objective, folder=folder, options=OPTIONS)
    return student


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, float]:
    """What labels alone teach."""
    return judged(learned(None, Objective(L=(CrossEntropy(),)), tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize(
    "term",
    [
        pytest.param(SoftTargets(weight=5.0, temperature=2.0), id="soft-targets"),
        pytest.param(Decoupled(weight=2.0, temperature=2.0, beta=2.0), id="decoupled"),
        pytest.param(OutputDifference(), id="output-difference"),
        pytest.param(CosineDistance(weight=5.0), id="cosine"),
        pytest.param(Callback(function=lambda seen: (seen.pair()[0] - seen.pair()[1]).abs().mean()), id="callback"),
        pytest.param(
            Attention(weight=10.0, taps=tuple(Tap(student=one, teacher=one) for one in ("first", "second"))),
            id="attention",
        ),
    ],
)
def test_a_teacher_helps_where_labels_mislead(
    teacher: Net, alone: tuple[float, float], term: Term, tmp_path: Path
) -> None:
    top1, _ = judged(learned(teacher, Objective(L=(CrossEntropy(), term)), tmp_path))

    assert top1 > alone[0] + 0.02


@pytest.mark.parametrize(
    ("average", "objective"),
    [
        pytest.param(
            MovingAverage(decay=0.98),
            Objective(L=(CrossEntropy(), SoftTargets(weight=5.0, temperature=1.0))),
            id="mean",
        ),
        pytest.param(None, Objective(L=(CrossEntropy(),), R=(ConfidencePenalty(),), lambda_=1.0), id="confidence"),
        pytest.param(None, Objective(L=(CrossEntropy(),), R=(ActivityPenalty(),), lambda_=0.1), id="activity"),
    ],
)
def test_a_mean_teacher_and_regularisers_help_against_too_much_confidence(
    alone: tuple[float, float], average: MovingAverage | None, objective: Objective, tmp_path: Path
) -> None:
    _, entropy = judged(learned(average, objective, tmp_path))

    assert entropy < 0.9 * alone[1]


def test_a_generation_learns_from_the_one_before(tmp_path: Path) -> None:
    made: list[Net] = []

    def make() -> Network:
        made.append(Net(3, seed=7 + len(made)))
        return Network(module=made[-1])

    found = born_again(
        make,
        None,
        misled(),
        Objective(L=(SoftTargets(temperature=2.0),)),
        generations=2,
        folder=tmp_path / "again",
        options=OPTIONS,
    )
    single = Net(3, seed=8)
    distill(Network(module=single), None, misled(), folder=tmp_path / "single", options=OPTIONS)

    assert judged(made[1])[1] < 0.95 * judged(single)[1]
    assert [one.objective for one in found.results] == ["1 CrossEntropy", "1 SoftTargets"]
    assert found.results[0].teacher == {}
    assert found.results[1].teacher == found.results[0].after
    assert found.student.module is made[found.best]
    assert found.best == max((0, 1), key=lambda number: found.results[number].after["top1"])


def line(width: int, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))


def regressed(objective: Objective, folder: Path, *, taught: bool = True) -> float:
    """The squared error of a student of few points with noise, over the variance."""
    teacher, student = line(24, seed=0), line(12, seed=7)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(3)
    x = np.random.default_rng(1).standard_normal((80, 8)).astype(np.float32)
    held = np.random.default_rng(2).standard_normal((2000, 8)).astype(np.float32)
    noise = np.random.default_rng(3).standard_normal((80, 2)).astype(np.float32)
    with torch.no_grad():
        y, wanted = teacher(torch.from_numpy(x)).numpy() + noise, teacher(torch.from_numpy(held))
    options = replace(OPTIONS, rate=1e-2, held_out=0.2)
    options = replace(
        options, training=replace(OPTIONS.training, epochs=200, batch_size=16, evaluate_every=200, monitor="loss")
    )
    samples = LearningSamples(feeds={"input": x}, labels=y)
    given = Network(module=teacher) if taught else None
    distill(Network(module=student), given, samples, objective, folder=folder, options=options)
    with torch.no_grad():
        return float((student(torch.from_numpy(held)) - wanted).square().mean() / wanted.var())


def test_hints_relations_and_outputs_help_a_regression(tmp_path: Path) -> None:
    taps = (Tap(student="1", teacher="1"),)
    labels = SquaredError()

    alone = regressed(Objective(L=(labels,)), tmp_path / "alone", taught=False)

    for number, term in enumerate((Hints(weight=30.0, taps=taps), Relational(weight=100.0, taps=taps))):
        assert regressed(Objective(L=(labels, term)), tmp_path / str(number)) < 0.8 * alone
    assert regressed(Objective(L=(labels, OutputDifference(weight=3.0))), tmp_path / "outputs") < 0.5 * alone


def test_the_result_says_what_was_learned_and_a_second_call_goes_on(teacher: Net, tmp_path: Path) -> None:
    options = replace(OPTIONS, training=replace(OPTIONS.training, epochs=2, evaluate_every=1, monitor=""))
    student, again = Net(3, seed=5), Net(3, seed=5)

    def run(net: Net, **more: object) -> DistillResult:
        samples = misled()
        return distill(Network(module=net), Network(module=teacher), samples, folder=tmp_path, options=options, **more)

    first, second = run(student), run(again)

    assert first.objective == "0.1 CrossEntropy + 0.9 SoftTargets"
    assert set(first.before) == set(first.after) == set(first.teacher) == {"top1", "loss"}
    assert first.teacher["top1"] > first.after["top1"] >= first.before["top1"]
    assert first == second
    assert all(torch.equal(one, other) for one, other in zip(student.parameters(), again.parameters(), strict=True))


def test_a_score_of_the_user_decides_and_feeds_are_augmented_for_both(teacher: Net, tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def mirrored(feeds: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return {name: one.flip(-1) for name, one in feeds.items()}

    def score(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None) -> float:
        seen.append((*outputs["output"].shape, len(labels) if labels is not None else 0))
        return float(len(seen))

    def same(found: BatchOutputs) -> torch.Tensor:
        assert torch.equal(teacher(found.feeds["image"]), found.teacher["output"])
        return found.output().square().mean()

    options = replace(OPTIONS, training=replace(OPTIONS.training, epochs=1, monitor=""))
    result = distill(
        Network(module=Net(2, seed=0)),
        Network(module=teacher),
        misled(),
        Objective(L=(Callback(function=same),)),
        folder=tmp_path,
        options=options,
        score=score,
        augment=mirrored,
    )

    assert seen[0] == (42, CLASSES, 42)
    assert (result.before["score"], result.after["score"], result.teacher["score"]) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("count", "labels", "more", "says"),
    [
        pytest.param(140, None, {"teacher": None}, "neither a teacher nor labels", id="nothing"),
        pytest.param(140, np.full(140, 4), {}, "for 4 classes", id="classes"),
        pytest.param(20, None, {}, "held out", id="few"),
        pytest.param(140, None, {"augment": lambda feeds: {"x": 1}}, "give back a dict", id="augment"),
    ],
)
def test_what_can_not_be_learned_is_refused(
    count: int, labels: np.ndarray | None, more: dict[str, object], says: str, tmp_path: Path
) -> None:
    samples = LearningSamples(feeds={"image": images_of(count, seed=3)[0]}, labels=labels)
    given = {"teacher": Network(module=Net(2, seed=1)), "samples": samples, "folder": tmp_path, "options": OPTIONS}

    with pytest.raises(EdgeportError, match=says):
        distill(Network(module=Net(2, seed=0)), **given | more)


@pytest.mark.parametrize(
    ("feeds", "labels", "says"),
    [
        pytest.param({}, None, "no inputs", id="nothing"),
        pytest.param({"x": [[1.0]]}, None, "x: a list", id="list"),
        pytest.param({"x": torch.ones(2, 1)}, None, "x: a Tensor", id="tensor"),
        pytest.param({"x": np.ones((2, 1)), "step": np.array(3)}, None, r"step: int64 \[\]", id="one for all"),
        pytest.param({"x": np.ones((2, 1))}, np.array(["cat", "dog"]), r"labels: <U3 \[2\]", id="text"),
        pytest.param({"x": np.ones((2, 1))}, np.array([1, None]), r"labels: object \[2\]", id="objects"),
    ],
)
def test_samples_that_are_no_numbers_are_refused(feeds: dict[str, object], labels: object, says: str) -> None:
    with pytest.raises(SamplesError, match=says):
        LearningSamples(feeds=feeds, labels=labels)


@pytest.mark.parametrize(
    ("teacher", "student", "says"),
    [
        pytest.param(Net(2, 0).half(), Net(2, 0), "run Net .*RuntimeError.*Half", id="half a teacher"),
        pytest.param(Net(2, 0), Net(2, 0).double(), "run Net .*RuntimeError.*double", id="a double student"),
        pytest.param(
            torch.nn.Flatten(2), torch.nn.Linear(9, 4), "run Linear .*cannot be multiplied", id="another size"
        ),
    ],
)
def test_samples_that_a_network_does_not_take_are_refused_before_any_training(
    teacher: torch.nn.Module, student: torch.nn.Module, says: str, tmp_path: Path
) -> None:
    images, labels = images_of(60, seed=3)

    with pytest.raises(SamplesError, match=says):
        distill(
            Network(module=student),
            Network(module=teacher),
            LearningSamples(feeds={"image": images}, labels=labels),
            folder=tmp_path / "work",
            options=small(),
        )

    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
def test_classes_may_be_whole_numbers_of_any_kind(teacher: Net, dtype: type, tmp_path: Path) -> None:
    images, labels = images_of(60, seed=3)

    def run(kind: type) -> DistillResult:
        samples = LearningSamples(feeds={"image": images}, labels=labels.astype(kind))
        networks = Network(module=Net(2, seed=0)), Network(module=teacher)
        return distill(*networks, samples, folder=tmp_path / kind.__name__, options=small())

    assert run(dtype) == run(np.int64)


def small(**training: object) -> DistillOptions:
    return DistillOptions(training=TrainingSettings(epochs=1, batch_size=16, **training), rate=5e-3)


@pytest.mark.parametrize(
    ("labels", "objective", "says"),
    [
        pytest.param(None, None, "no labels of classes or values", id="nothing to compare by"),
        pytest.param(
            np.arange(140) % 4,
            Objective(L=(Hints(taps=(Tap(student="first", teacher="1"),)),)),
            "module '1' to look at",
            id="modules of the first teacher alone",
        ),
    ],
)
def test_generations_that_can_not_go_on_are_refused_before_the_first(
    labels: np.ndarray | None, objective: Objective | None, says: str, tmp_path: Path
) -> None:
    with pytest.raises(DistillationError, match=says):
        born_again(
            lambda: Network(module=Net(2, seed=0)),
            Network(module=torch.nn.Sequential(Net(2, seed=1), torch.nn.Identity())),
            LearningSamples(feeds={"image": images_of(140, seed=3)[0]}, labels=labels),
            objective,
            generations=2,
            folder=tmp_path / "again",
            options=small(),
        )
    assert not (tmp_path / "again").exists()


def test_no_generation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillationError, match="train 0 generations"):
        born_again(lambda: Network(module=Net(2, seed=0)), None, misled(), generations=0, folder=tmp_path)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"objective": Objective(L=(SoftTargets(temperature=2.0),))}, id="objective"),
        pytest.param({"options": replace(small(), rate=1e-4)}, id="rate"),
        pytest.param({"augment": lambda feeds: feeds}, id="augment"),
        pytest.param({"teacher": Network(module=Net(6, seed=8))}, id="teacher"),
        pytest.param({"samples": replace(misled(), labels=images_of(140, seed=3)[1])}, id="labels"),
        pytest.param({"samples": replace(misled(), feeds={"image": images_of(140, seed=4)[0]})}, id="images"),
    ],
)
def test_a_folder_of_another_training_is_not_taken_for_this_one(
    teacher: Net, more: dict[str, object], tmp_path: Path
) -> None:
    def run(**changed: object) -> DistillResult:
        given = {"objective": Objective(L=(Callback(function=squares),)), "options": small(), "folder": tmp_path}
        given |= {"teacher": Network(module=teacher), "samples": misled()}
        return distill(Network(module=Net(3, seed=5)), **given | changed)

    first = run()
    assert run() == first
    with pytest.raises(TrainingError, match="other settings, losses"):
        run(**more)


def squares(seen: BatchOutputs) -> torch.Tensor:
    return seen.output().square().mean()


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"optimizer": "lion"}, {"weight_decay": -1.0}, {"held_out": 0.9}])
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        DistillOptions(**wrong)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_is_for_weights_alone(optimizer: str) -> None:
    net = Net(2, seed=0)

    groups = make_optimizer(DistillOptions(optimizer=optimizer, weight_decay=0.5))(net.parameters()).param_groups

    assert [(one["weight_decay"], len(one["params"])) for one in groups] == [(0.5, 3), (0.0, 3)]
