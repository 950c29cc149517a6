"""The benchmark of pruning for a latency: its networks for multiplications, its claims, one goal from end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.harness import Arguments
from benchmarks.harness.cifar import Images
from benchmarks.pruning import latency
from benchmarks.pruning.latency import Beside, LatencyRow, Point, Timed, by_multiplications, latency_checks, top1_at
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, LayerCost

OUTLINES = [
    GroupSpec(name=name, kind="channels", units=64, scores=tuple(float(unit) for unit in range(64))) for name in "ab"
]
COSTS = Costs(layers=tuple(LayerCost(name=name, macs=64e6, weights=64, axes=({name: 1 / 64},)) for name in ("a", "b")))


@pytest.mark.parametrize("begin", [0.1, 0.45, 0.9])
@pytest.mark.parametrize(
    "time", [lambda left: left, lambda left: 0.2 + 0.8 * left, lambda left: left**0.5], ids=["even", "fixed", "root"]
)
def test_networks_for_multiplications_come_to_a_latency(time: Callable[[float], float], begin: float) -> None:
    def measured(counts: Mapping[str, int]) -> float:
        return time(COSTS.macs(counts) / COSTS.macs({}))

    found = [measured(counts) for counts in by_multiplications(OUTLINES, COSTS, measured, 0.5, begin=begin)]

    assert found[0] >= 0.495
    assert found[-1] <= 0.505
    assert max(found) - min(found) < 0.15


def test_accuracy_is_read_between_the_points_around() -> None:
    points = [Point(left=0.5, time=0.6, top1=0.9), Point(left=0.3, time=0.4, top1=0.8)]

    assert top1_at(points, 0.45) == pytest.approx(0.825)
    assert top1_at(points, 0.3) == 0.8
    assert top1_at(points, 0.7) == 0.9
    assert top1_at(points[:1], 0.5) == 0.9


def row(*, time: float = 0.48, top1: float = 0.9, seed: int = 0) -> LatencyRow:
    return LatencyRow(
        speedup=2.0,
        seed=seed,
        found=Timed(speedup=1 / time, low=1 / time, high=1 / time),
        left=0.5,
        measured=9,
        top1=top1,
        by_macs=tuple(Beside(round_to=block, top1=known, points=()) for block, known in ((8, 0.89), (16, 0.88))),
    )


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        pytest.param([row(), row(top1=0.885)], [True, True, True, True], id="good-in-the-mean"),
        pytest.param([row(), row(time=0.51)], [False, True, True, True], id="too-slow-once"),
        pytest.param([row(time=0.42), row()], [True, False, True, True], id="too-fast-once"),
        pytest.param([row(top1=0.88), row()], [True, True, True, True], id="even"),
        pytest.param([row(top1=0.87), row()], [True, True, False, True], id="worse"),
        pytest.param([row(top1=0.85), row()], [True, True, False, False], id="worse-than-both"),
    ],
)
def test_what_is_claimed(rows: list[LatencyRow], holds: list[bool]) -> None:
    assert [check.holds for check in latency_checks(rows)] == holds


class _Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Conv2d(3, 64, 3), torch.nn.Conv2d(64, 32, 3)
        self.last = torch.nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.second(torch.relu(self.first(images))))
        return self.last(inner.mean(dim=(2, 3)))


def test_a_goal_is_met_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)

    def images(count: int) -> Images:
        return Images(
            images=random.standard_normal((count, 3, 8, 8)).astype(np.float32), labels=random.integers(0, 10, count)
        )

    asked: list[int] = []

    def measured(self: latency._Subject, counts: Mapping[str, int], rounds: int) -> Timed:
        asked.append(rounds)
        left = self.costs.macs(counts) / self.costs.macs({})
        speedup = 1 / (0.1 + 0.9 * left)
        return Timed(speedup=speedup, low=0.99 * speedup, high=1.01 * speedup)

    monkeypatch.setattr("benchmarks.harness.networks.resnet18", _Small)
    monkeypatch.setattr(latency, "drawn", lambda count, seed: images(16))
    monkeypatch.setattr(latency, "judged", lambda part, count: images(30))
    monkeypatch.setattr(latency._Subject, "_measured", measured)

    part = latency.latency_part(Arguments(out=tmp_path, short=True))

    assert [check.holds for check in part.checks[:2]] == [True, True]
    (found,) = part.figures
    assert [one["round_to"] for one in found["by_macs"]] == [8, 16]
    assert all(0 <= one["top1"] <= 1 for one in found["by_macs"])
    assert asked.count(latency.ROUNDS_IN_THE_END) == 1
    done = len(asked)
    again = latency.latency_part(Arguments(out=tmp_path, short=True))
    assert again.figures == part.figures
    assert len(asked) == done
