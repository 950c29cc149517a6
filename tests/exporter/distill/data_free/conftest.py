"""A teacher of three classes, and data far away from where numbers are usually drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.exporter.distill.data_free.synthesizers import synthesizer_of
from edgeport.exporter.distill.data_free.task import DataFreeDistillation, NoSamples
from edgeport.exporter.distill.losses.response import SoftTargets
from edgeport.exporter.distill.objective import Objective
from edgeport.exporter.distill.teacher_student import Network, Pair
from edgeport.exporter.train.loop import fit

SIZE, CLASSES = 8, 4
TERMS = (SoftTargets(temperature=4.0),)


@dataclass(frozen=True)
class Problem:
    """Blobs, two for each class, so that no straight line parts them."""

    teacher: Any
    images: np.ndarray
    labels: np.ndarray
    size: int = SIZE

    @staticmethod
    def network(hidden, norm=True, seed=1):
        return network(hidden, norm, seed)

    @staticmethod
    def trained(module):
        return trained(module)

    def accuracy(self, module):
        module.eval()
        with torch.no_grad():
            return float((module(torch.from_numpy(self.images)).argmax(dim=1).numpy() == self.labels).mean())

    def pair(self, student, teacher=None, terms=TERMS, rate=3e-3):
        return Pair(
            Network(module=student),
            Network(module=self.teacher if teacher is None else teacher),
            Objective(L=tuple(terms)),
            {"x": torch.from_numpy(self.images[:4])},
            lambda parameters: torch.optim.Adam(parameters, lr=rate),
        )


def network(hidden, norm=True, seed=1):
    torch.manual_seed(seed)
    layers = []
    for before, after in ((SIZE, hidden), (hidden, hidden)):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, CLASSES))


def blobs(count, seed):
    rng = np.random.default_rng(0)
    centres = 3.0 + rng.normal(size=(2 * CLASSES, SIZE)) * 0.6
    rng = np.random.default_rng(seed)
    which = rng.integers(2 * CLASSES, size=count)
    return (centres[which] + 0.25 * rng.normal(size=(count, SIZE))).astype(np.float32), which % CLASSES


def trained(module, steps=150):
    images, labels = (torch.from_numpy(one) for one in blobs(2000, 1))
    adam = torch.optim.Adam(module.parameters(), lr=1e-2)
    module.train()
    for step in range(steps):
        rows = slice(step * 64 % 1900, step * 64 % 1900 + 64)
        adam.zero_grad()
        nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
        adam.step()
    return module.eval()


@pytest.fixture(scope="session")
def problem():
    images, labels = blobs(600, 2)
    made = Problem(trained(network(48, seed=0)), images, labels)
    assert made.accuracy(made.teacher) > 0.95
    return made


class Killed(Exception):
    """Somebody ends the training."""


@pytest.fixture
def whole_and_resumed(problem, tmp_path):
    """The folders of a training that went through, and of one that was killed at a step and went on."""

    def train(method, spec, settings, steps, kill_at):
        class Stopping(DataFreeDistillation):
            def step(self, batch, context):
                if context.step == kill_at:
                    raise Killed
                return super().step(batch, context)

        def run(kind, folder):
            pair = problem.pair(problem.network(12))
            torch.manual_seed(3)
            fit(kind(pair, "x", synthesizer_of(method, pair, spec)), NoSamples(32 * steps), settings, folder)

        whole, cut = tmp_path / "whole", tmp_path / "cut"
        run(DataFreeDistillation, whole)
        with pytest.raises(Killed):
            run(Stopping, cut)
        run(DataFreeDistillation, cut)
        return whole, cut

    return train
