"""Sizes of students."""

from __future__ import annotations

import pytest

from edgeport.errors import DistillationError
from edgeport.exporter.distill.student_sizing import scale_to_latency


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


@pytest.mark.parametrize(("values", "goal", "found"), [([], 5.0, "0 sizes"), ([1], 0.0, "above 0")])
def test_no_sizes_or_no_goal_is_refused(values: list[float], goal: float, found: str) -> None:
    with pytest.raises(DistillationError, match=found):
        scale_to_latency(values, float, goal)
