"""What labels say of a student, and what judges it and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeport.errors import DistillationError, EdgeportError
from edgeport.exporter.distill.distilling import distill
from edgeport.exporter.distill.losses.feature import Relational
from edgeport.exporter.distill.losses.response import CosineDistance, OutputDifference, SoftTargets
from edgeport.exporter.distill.losses.task import Callback, CrossEntropy, SquaredError
from edgeport.exporter.distill.objective import Objective, Term
from edgeport.exporter.distill.options import DistillOptions, DistillResult
from edgeport.exporter.distill.teacher_student import Network
from edgeport.exporter.train import TrainingSettings
from edgeport.exporter.train.samples import LearningSamples

CLASSES = 4


def net(seed: int) -> torch.nn.Module:
    """Images [N, 1, 8, 8] to scores [N, 4]."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES))


def images_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.standard_normal((count, 1, 8, 8)).astype(np.float32), random.integers(0, CLASSES, count)


def line(width: int, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))


def small() -> DistillOptions:
    return DistillOptions(training=TrainingSettings(epochs=1, batch_size=16), rate=5e-3)


class Several(torch.nn.Module):
    """An embedding, the class scores, and a number that is of no sample."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = net(seed)
        self.body = torch.nn.Linear(64, CLASSES)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"inside": self.body(image.flatten(1)), "scores": self.net(image), "scale": self.body.bias.sum()}


@pytest.mark.parametrize("named", ["by the term", "by the call"])
def test_the_output_that_labels_are_of_is_judged(named: str, tmp_path: Path) -> None:
    images, labels = images_of(140)
    term = CrossEntropy(output="scores" if named == "by the term" else "")
    student, looked = Several(0), []

    def score(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None) -> float:
        assert labels is not None
        looked.append(float((outputs["scores"].argmax(dim=1) == labels).float().mean()))
        return 0.0

    found = distill(
        Network(module=student),
        Network(module=Several(1)),
        LearningSamples(feeds={"image": images}, labels=labels),
        Objective(L=(term, SoftTargets(output=term.output))),
        folder=tmp_path,
        options=small(),
        output="" if named == "by the term" else "scores",
        score=score,
    )

    assert found.before["top1"] == pytest.approx(looked[0])
    assert found.teacher["top1"] == pytest.approx(looked[-1])
    before = [one.clone() for one in Several(0).body.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(student.body.parameters(), before, strict=True))


class LossFirst(torch.nn.Module):
    """Gives a number of the whole batch before the scores."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = net(seed)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.net(image)
        return {"loss": scores.square().mean(), "scores": scores}


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_labels_are_not_of_a_number_of_the_whole_batch(dtype: type, tmp_path: Path) -> None:
    images, labels = images_of(60)
    samples = LearningSamples(feeds={"image": images}, labels=labels.astype(dtype))

    def run(objective: Objective | None) -> DistillResult:
        networks = (Network(module=LossFirst(seed)) for seed in (0, 1))
        return distill(*networks, samples, objective, folder=tmp_path, options=small())

    with pytest.raises(DistillationError, match=r"for the whole batch as the output 'loss'.*name the output"):
        run(None)
    assert set(run(Objective(L=(OutputDifference(output="scores"),))).after) == {"loss"}


@pytest.mark.parametrize(
    ("whose", "term"),
    [
        pytest.param(1, CosineDistance(), id="whose fits"),
        pytest.param(90, CosineDistance(), id="cosine"),
        pytest.param(90, Relational(), id="relational"),
        pytest.param(90, Callback(function=lambda seen: seen.output().square().mean()), id="callback"),
    ],
)
def test_embeddings_are_judged_by_the_objective_where_labels_say_whose_they_are(
    whose: int, term: Term, tmp_path: Path
) -> None:
    images, labels = images_of(60)

    def run(objective: Objective | None) -> DistillResult:
        samples = LearningSamples(feeds={"input": images}, labels=labels * whose)
        networks = (Network(module=net(seed)) for seed in (0, 1))
        return distill(*networks, samples, objective, folder=tmp_path, options=small())

    assert set(run(Objective(L=(term,))).after) == {"loss"}
    if whose > 1:
        with pytest.raises(EdgeportError, match="where these are no classes"):
            run(None)


def test_a_teacher_of_another_form_is_not_judged(tmp_path: Path) -> None:
    images, labels = images_of(60)
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 7))

    found = distill(
        Network(module=net(0)),
        Network(module=wide),
        LearningSamples(feeds={"input": images}, labels=labels),
        Objective(L=(CrossEntropy(), Relational())),
        folder=tmp_path,
        options=small(),
    )

    assert found.teacher == {}
    assert set(found.after) == {"top1", "loss"}


def test_the_last_samples_that_are_held_out_are_never_too_few_for_relations(tmp_path: Path) -> None:
    """A tenth of 1290 is 129: a batch, and one sample more."""
    x = np.random.default_rng(0).standard_normal((1290, 8)).astype(np.float32)
    objective = Objective(L=(Relational(),))

    found = distill(
        Network(module=line(4, 0)),
        Network(module=line(8, 1)),
        LearningSamples(feeds={"input": x}),
        objective,
        folder=tmp_path,
        options=small(),
    )

    assert found.after["loss"] > 0


def test_values_judge_teacher_and_student_alike(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    teacher, student = line(8, 1), line(4, 0)
    y = teacher(torch.from_numpy(x)).detach().numpy() + 1.0

    found = distill(
        Network(module=student),
        Network(module=teacher),
        LearningSamples(feeds={"input": x}, labels=y),
        Objective(L=(SquaredError(weight=100.0), OutputDifference(weight=7.0))),
        folder=tmp_path,
        options=small(),
    )

    assert found.teacher["loss"] == pytest.approx(1.0, rel=1e-4)  # whatever terms weigh
    held = np.sort(np.random.default_rng(0).permutation(100)[:10])
    with torch.no_grad():
        error = (line(4, 0)(torch.from_numpy(x[held])) - torch.from_numpy(y[held])).square().mean()
    assert found.before["loss"] == pytest.approx(float(error), rel=1e-4)


@pytest.mark.parametrize(
    ("gives", "says"),
    [(lambda outputs: outputs["output"], r"a tensor \[6, 4\]"), (lambda outputs: "good", "'good'"), (print, "None")],
    ids=["tensor", "text", "nothing"],
)
def test_a_score_that_is_no_number_is_refused(gives: object, says: str, tmp_path: Path) -> None:
    images, labels = images_of(60)

    def score(outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None) -> float:
        return gives(outputs)

    with pytest.raises(DistillationError, match=rf"judge a student by score; found that it gives {says}"):
        distill(
            Network(module=net(0)),
            None,
            LearningSamples(feeds={"input": images}, labels=labels),
            folder=tmp_path,
            options=small(),
            score=score,
        )
