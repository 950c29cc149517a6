"""The benchmark of ResNet-18 at half its latency: its recipe is one, and what it claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.cifar import Images
from benchmarks.pruning import twice
from benchmarks.pruning.twice import RECIPE, TwiceRow, twice_checks
from edgeport.contracts import PruneStep, StudentStep
from edgeport.recipe import load_recipe


def test_the_recipe_is_one(tmp_path: Path) -> None:
    for name in ("training", "calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", images=np.zeros((1, 3, 32, 32), np.float32), label=np.zeros(1, np.int64))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(asked=2.15, epochs=3, rounds=12), encoding="utf-8")

    pruning, distilling = load_recipe(tmp_path / "recipe.toml").compress

    assert isinstance(pruning, PruneStep)
    assert (pruning.speedup, pruning.trains) == (2.15, False)
    assert isinstance(distilling, StudentStep)
    assert (distilling.learning.epochs, distilling.learning.augment) == (3, "crop-flip")


def test_a_later_start_takes_the_samples_that_are_there_and_the_recipe_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def images(count: int) -> Images:
        drawn.append(count)
        return Images(images=np.zeros((1, 3, 2, 2), np.uint8), labels=np.zeros(1, np.int64))

    monkeypatch.setattr(twice, "drawn", lambda count, seed: images(count))
    monkeypatch.setattr(twice, "judged", lambda part, count: images(count))
    twice._written(tmp_path, short=True)
    monkeypatch.setattr(twice, "ASKED", 2.5)
    recipe = twice._written(tmp_path, short=True)

    assert 'target = "2.5x"' in recipe.read_text(encoding="utf-8")
    assert drawn == [twice.LEARNED_SHORT, 256, twice.IMAGES_SHORT]
    assert sorted(file.stem for file in tmp_path.glob("*.npz")) == ["calibration", "evaluation", "training"]


def row(name: str, top1: float, low: float | None) -> TwiceRow:
    speedup = None if low is None else (low, low + 0.1, low + 0.2)
    return TwiceRow(name=name, pruned="pruned" in name, top1=top1, p50_ms=1.0, speedup=speedup)


FLOATS = [row("openvino fp32", 0.92, None), row("onnxruntime fp32", 0.92, 0.9)]


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        pytest.param([*FLOATS, row("pruned", 0.916, 2.01)], [True, True], id="good"),
        pytest.param([*FLOATS, row("pruned", 0.914, 2.01)], [False, True], id="less-accurate"),
        pytest.param([*FLOATS, row("pruned", 0.916, 1.99)], [True, False], id="not-surely-twice"),
        pytest.param([*FLOATS, row("pruned 1", 0.9, 2.2), row("pruned 2", 0.93, 1.0)], [False, True], id="the-fastest"),
        pytest.param(FLOATS, [False], id="nothing-pruned"),
    ],
)
def test_accuracy_and_speed_are_of_the_same_network(rows: list[TwiceRow], holds: list[bool]) -> None:
    assert [check.holds for check in twice_checks(rows)] == holds
