"""Where students come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeport.errors import DistillationError
from edgeport.exporter.distill.student_sizing import pruned_student, scale_to_latency
from edgeport.exporter.distill.teacher_student import Network
from edgeport.exporter.prune.config import Units
from edgeport.exporter.prune.importance.criteria import Magnitude
from edgeport.exporter.prune.samples import Samples


@pytest.mark.parametrize(
    ("goal", "value", "reached"), [(45.0, 40, True), (80.0, 80, True), (9.0, 10, False), (1e9, 80, True)]
)
def test_the_largest_student_that_is_fast_enough_by_few_measurements(goal: float, value: float, reached: bool) -> None:
    measured: list[float] = []

    def measure(width: float) -> float:
        measured.append(width)
        return width

    found = scale_to_latency(range(10, 90, 10), measure, goal)

    assert (found.value, found.reached, found.latency_ns) == (value, reached, value)
    assert len(measured) <= 4
    assert [width for width, _ in found.trials] == measured


def test_no_sizes_or_no_goal_is_refused() -> None:
    with pytest.raises(DistillationError, match="0 sizes"):
        scale_to_latency([], float, 5.0)
    with pytest.raises(DistillationError, match="above 0"):
        scale_to_latency([1], float, 0.0)


def test_the_pruned_student_is_smaller_and_the_teacher_stays() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    samples = Samples(feeds={"input": np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)})

    student = pruned_student(Network(module=net), Units(macs=0.5), Magnitude(), samples)

    assert student.module[0].out_features <= 32
    assert net[0].out_features == 64
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
