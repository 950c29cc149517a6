"""Every method helps on a small case, against itself switched off; and the way from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeport.exporter.distill.distilling import distill
from edgeport.exporter.distill.objective import Objective, Term
from edgeport.exporter.distill.options import DistillOptions
from edgeport.exporter.distill.pair import Network
from edgeport.exporter.distill.response import CosineDistance, Decoupled, OutputDifference, SoftTargets
from edgeport.exporter.distill.supervised import Callback, CrossEntropy
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


def top1(net: torch.nn.Module, count: int = 2000) -> float:
    images, labels = images_of(count, seed=2)
    with torch.no_grad():
        return float((net(torch.from_numpy(images)).argmax(dim=1).numpy() == labels).mean())


OPTIONS = DistillOptions(
    training=TrainingSettings(epochs=60, batch_size=32, evaluate_every=60, checkpoint_every=1000, monitor="top1"),
    rate=5e-3,
    held_out=0.3,
)


def learned(teacher: object, objective: Objective, folder: Path, **changes: object) -> Net:
    """A student of few images, a third of whose labels are wrong."""
    images, labels = images_of(140, seed=3)
    wrong = np.random.default_rng(4).random(len(labels)) < 0.3
    labels = np.where(wrong, (labels + 1) % CLASSES, labels)
    student = Net(3, seed=5)
    samples = LearningSamples(feeds={"image": images}, labels=labels)
    given = Network(module=teacher) if isinstance(teacher, torch.nn.Module) else teacher
    distill(Network(module=student), given, samples, objective, folder=folder, options=OPTIONS, **changes)
    return student


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What labels alone teach."""
    return top1(learned(None, Objective(L=(CrossEntropy(),)), tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize(
    "term",
    [
        pytest.param(SoftTargets(weight=5.0, temperature=2.0), id="soft-targets"),
        pytest.param(Decoupled(weight=2.0, temperature=2.0, beta=2.0), id="decoupled"),
        pytest.param(OutputDifference(), id="output-difference"),
        pytest.param(CosineDistance(weight=5.0), id="cosine"),
        pytest.param(Callback(function=lambda seen: (seen.pair()[0] - seen.pair()[1]).abs().mean()), id="callback"),
    ],
)
def test_a_teacher_helps_where_labels_mislead(teacher: Net, alone: float, term: Term, tmp_path: Path) -> None:
    student = learned(teacher, Objective(L=(CrossEntropy(), term)), tmp_path)

    assert top1(student) > alone + 0.05
