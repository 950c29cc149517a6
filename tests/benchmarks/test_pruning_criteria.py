"""What the benchmark of criteria claims, over rows that are made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.harness import networks, paired
from benchmarks.harness.cifar import Images
from benchmarks.pruning.cases import CASES, _ours, structures
from benchmarks.pruning.checks import Row, checks, table
from edgeport.exporter.prune.config import Iterative


def _rows(by: str, values: list[float], maker: str = "edgeport") -> list[Row]:
    return [Row(structure="channels", by=by, maker=maker, seed=seed, top1=value) for seed, value in enumerate(values)]


def test_pairs_of_seeds_are_compared() -> None:
    low, high = paired([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)
    low, high = paired([0.5], [0.4, 0.6, 0.5])
    assert low < 0 < high


def test_what_is_no_better_than_chance_falls_short() -> None:
    chance = _rows("random", [0.1, 0.2, 0.15])
    found = {check.name.split(":")[1].split()[0]: check.holds for check in checks([
        *_rows("l1", [0.8]), *_rows("taylor", [0.1, 0.2, 0.15001]), *_rows("worse", [0.05, 0.05, 0.05]), *chance
    ])}  # fmt: skip
    assert found == {"l1": True, "taylor": False, "worse": False}


def test_the_same_criterion_of_others_is_a_bound() -> None:
    ours, theirs = _rows("l1", [0.5]), _rows("l1", [0.6], "torch-pruning")
    (check,) = checks([*ours, *theirs])
    assert not check.holds
    (check,) = checks([*ours, *_rows("l1", [0.5], "torch-pruning")])
    assert check.holds


def test_channels_that_go_in_steps_are_held_to_what_others_take_in_theirs() -> None:
    stepwise = Row(structure="channels in 20 steps", by="l1", maker="edgeport", seed=0, top1=0.62)
    found = checks([*_rows("l1", [0.5]), stepwise, *_rows("l1", [0.6], "torch-pruning")])
    assert [(check.name.partition(":")[0], check.holds) for check in found] == [
        ("channels", False),
        ("channels in 20 steps", True),
    ]


def test_the_table_has_a_line_for_each() -> None:
    assert table([*_rows("l1", [0.5]), *_rows("random", [0.1, 0.3])], "Top-1").rows == (
        ("channels", "l1", "edgeport", "0.5000", "0.5000 to 0.5000"),
        ("channels", "random", "edgeport", "0.2000", "0.1000 to 0.3000"),
    )


def test_once_trained_a_criterion_may_be_a_little_below_chance_and_the_best_must_be_above_it() -> None:
    chance = _rows("random", [0.7, 0.72, 0.71])
    held = {check.name.removeprefix("channels, trained: "): check.holds for check in checks([
        *_rows("l1", [0.75, 0.77, 0.76]), *_rows("taylor", [0.697, 0.717, 0.707]), *_rows("worse", [0.69, 0.71, 0.70]),
        *chance,
    ], trained=True)}  # fmt: skip
    assert held == {
        "l1 less random, top-1 (95 %)": True,
        "taylor less random, top-1 (95 %)": True,
        "worse less random, top-1 (95 %)": False,
        "l1, the best, above random, top-1 (95 %)": True,
    }
    *_, best = checks([*_rows("l1", [0.7, 0.72, 0.709]), *chance], trained=True)
    assert not best.holds


def test_what_is_pruned_in_steps_learns_once_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pruning.cases.resnet20", networks.ResNet20)
    images = Images(images=np.zeros((2, 3, 32, 32), np.float32), labels=np.zeros(2, np.int64))
    sizes: list[int] = []

    def size(module: torch.nn.Module) -> int:
        return sum(one.numel() for one in module.parameters())

    make = _ours(structures()["channels in 20 steps"], "l2", Iterative(steps=2))
    network = make(images, 0, lambda module: sizes.append(size(module)))
    assert sizes == [size(network)]
    assert sizes[0] < 250_000


@pytest.mark.parametrize("name", ["weights 70 %, l1, edgeport", "weights 70 %, l1, torch", "channels, l2, edgeport"])
def test_what_is_done_to_a_pruned_network_leaves_its_zeros(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pruning.cases.resnet20", networks.ResNet20)
    (case,) = [case for case in CASES if case.name == name]
    random = np.random.default_rng(0)
    images = Images(images=random.standard_normal((4, 3, 32, 32)).astype(np.float32), labels=random.integers(0, 10, 4))

    def tune(module: torch.nn.Module) -> None:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        torch.nn.functional.cross_entropy(module(torch.from_numpy(images.images)), torch.zeros(4).long()).backward()
        optimizer.step()

    network = case.make(images, 0, tune)

    weight = network.layer3[0].conv2.weight
    if case.structure == "channels":
        assert sum(one.numel() for one in network.parameters()) < 250_000
    else:
        network(torch.from_numpy(images.images))
        zeros = sum(int((one.weight == 0).sum()) for one in network.modules() if isinstance(one, torch.nn.Conv2d))
        assert zeros > 150_000
    assert weight.shape[0] == 64
