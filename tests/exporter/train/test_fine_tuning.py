"""A module that is trained on, and a teacher that is as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.contracts import FineTuning
from edgeport.errors import SourceError
from edgeport.exporter.train.fine_tuning import StudentSetup, fine_tune
from edgeport.exporter.train.samples import LearningSamples


class Noisy(nn.Module):
    """Part of it is in evaluation mode, as a frozen BatchNorm is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.last = nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)
        self.heard: list[bool] = []
        self.train()
        self.norm.eval()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.heard.append(self.training)
        return self.last(self.drop(self.norm(values)))


def test_a_teacher_answers_in_evaluation_mode_and_is_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(6, 3), Noisy()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    values = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)

    fine_tune(
        student,
        LearningSamples(feeds={"values": values}, labels=values[:, :3].argmax(axis=1)),
        FineTuning(epochs=1, batch_size=8, teacher=0.5),
        tmp_path,
        setup=StudentSetup(teacher=teacher),
    )

    assert teacher.heard
    assert not any(teacher.heard)
    assert teacher.training
    assert teacher.drop.training
    assert not teacher.norm.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not student.training


@pytest.mark.parametrize(("gives", "found"), [("3.0", "a float"), ("outputs['output'].sum(1)", r"a tensor \[4\]")])
def test_a_loss_that_is_not_one_number_is_refused(gives: str, found: str, tmp_path: Path) -> None:
    name = f"losses_giving_{len(gives)}"
    (tmp_path / f"{name}.py").write_text(f"def loss(outputs, labels):\n    return {gives}\n", encoding="utf-8")
    values = np.zeros((40, 6), np.float32)
    with pytest.raises(SourceError, match=found):
        fine_tune(
            nn.Linear(6, 3),
            LearningSamples(feeds={"input": values}, labels=values[:, 0]),
            FineTuning(epochs=1, batch_size=8, loss=f"{name}:loss"),
            tmp_path / "work",
            setup=StudentSetup(search_path=tmp_path),
        )
