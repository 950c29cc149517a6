"""The benchmark of distillation: its networks, and what is claimed from rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.distillation import generative, recipe
from benchmarks.distillation.digits import ROWS as MAKERS
from benchmarks.distillation.digits import digits_checks
from benchmarks.distillation.generative import (
    LONG,
    ROWS,
    Clock,
    Learned,
    generative_checks,
    settings_of,
    terms_of,
)
from benchmarks.distillation.processes import ProcessesRow, difference, processes_checks
from benchmarks.distillation.recipe import SIZES, Stage, recipe_checks, recipe_part, recipe_text
from benchmarks.distillation.students import StudentRow
from benchmarks.distillation.wide import WideResNet, student
from benchmarks.harness import Arguments, cifar
from benchmarks.harness.cifar import Images
from edgeport.recipe import load_recipe


def test_networks_are_as_large_as_they_are_called() -> None:
    sizes = [sum(one.numel() for one in net.parameters()) for net in (WideResNet(16, 1), WideResNet(40, 2))]
    assert sizes == pytest.approx([0.175e6, 2.24e6], rel=0.01)
    first, again, other = (student(seed) for seed in (0, 0, 1))
    images = torch.rand(2, 3, 32, 32)
    assert first(images).shape == (2, 10)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_nobody_learns_from_what_hyperparameters_are_chosen_on(monkeypatch) -> None:
    monkeypatch.setattr(cifar, "decoded", lambda name, rows: Images(images=rows, labels=rows))
    learned, drawn, chosen = cifar.training(), cifar.drawn(50_000, 1), cifar.judged("train", 5000)
    assert (len(learned.labels), len(drawn.labels), len(chosen.labels)) == (45_000, 45_000, 5000)
    assert set(learned.labels) == set(drawn.labels)
    assert not set(learned.labels) & set(chosen.labels)
    assert not np.array_equal(learned.labels, drawn.labels)


def test_every_method_has_its_row_and_claims_follow_from_rows() -> None:
    made = {"fast": 0.85, "contrastive": 0.6, "dafl": 0.3, "vae": 0.9}
    rows = [
        Learned(
            name=row.name,
            side=row.side,
            seed=0,
            steps=9,
            top1=made.get(row.by, 0.88),
            right=f"{'1' * round(100 * made.get(row.by, 0.88)):0<100}",
            seconds=600.0,
            device="none",
        )
        for row in ROWS
    ]
    assert {row.by for row in ROWS} == {*made, "labels", "soft", "adversarial", "variational"}
    assert all(terms_of(row.by) for row in ROWS)
    checks = generative_checks(rows, "long")
    assert [(round(one.value, 2), one.holds) for one in checks] == [(0.45, True), (0.85, True), (10.0, True)]
    unsure = [replace(row, right=f"{'1' * 31:0<100}") if row.name == "Fast" else row for row in rows]
    assert [one.holds for one in generative_checks(unsure, "long")] == [False, True, True]
    # What has seen images is no proof of what can be done without, nor is what took another time.
    worse = [replace(row, top1=0.8 if row.name == "Fast" else row.top1) for row in rows]
    worse = [replace(row, top1=0.86 if row.name == "contrastive inversion" else row.top1) for row in worse]
    assert [one.holds for one in generative_checks(worse, "long")] == [True, False, True]
    assert [one.holds for one in generative_checks(rows, "cpu")] == [True, False]
    assert generative_checks(rows, "short") == []
    assert LONG.steps > 0


def test_time_that_a_killed_run_took_counts(tmp_path, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(generative.time, "perf_counter", lambda: now[0])
    killed = Clock(tmp_path / "seconds.json")
    now[0] += 7.0
    killed.tick()
    now[0] += 3.0  # of these nobody was told
    again = Clock(tmp_path / "seconds.json")
    now[0] += 5.0
    again.tick()
    assert again.seconds == 12.0


def test_a_row_is_kept_by_what_it_learns_by(monkeypatch) -> None:
    fast, soft = ROWS[0], next(row for row in ROWS if row.by == "soft")
    before = [settings_of(row, LONG) for row in (fast, soft)]
    monkeypatch.setitem(generative._TEN, "inner", 9)
    monkeypatch.setattr(generative, "terms_of", lambda _: ())
    assert all(settings_of(row, LONG) != old for row, old in zip((fast, soft), before, strict=True))


def test_the_recipe_is_one_and_its_claims_are_of_what_ships(tmp_path) -> None:
    for name in ("training", "calibration", "evaluation"):
        images = np.zeros((4, 32, 32, 3), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(4))
    file = tmp_path / "resnet18.toml"
    for size in SIZES.values():
        file.write_text(recipe_text(size), encoding="utf-8")
        assert [step.method for step in load_recipe(file).compress] == ["prune", "distill", "qat"]

    def stage(speedup: float, top1: float, *, ships: bool) -> Stage:
        return Stage(
            step="",
            shown_by="",
            top1=top1,
            p50_ns=1e6,
            speedup_low=speedup,
            speedup=speedup,
            speedup_high=speedup,
            size_bytes=1,
            seconds=1.0,
            ships=ships,
        )

    whole = stage(1.0, 0.92, ships=False)
    assert [one.holds for one in recipe_checks([whole, stage(11.0, 0.911, ships=True)])] == [True, True]
    assert [one.holds for one in recipe_checks([whole, stage(9.0, 0.911, ships=True)])] == [True, False]
    # As fast and as good as it may be, it is of no use where it does not ship.
    assert [one.value for one in recipe_checks([whole, stage(11.0, 0.911, ships=False)])] == [0.0, 0.0]


def test_a_short_run_leaves_no_samples_to_a_whole_one(tmp_path, monkeypatch) -> None:
    images = Images(images=np.zeros((50_000, 3, 1, 1), np.uint8), labels=np.zeros(50_000, np.int64))
    found = []

    def run(file, **_):
        with np.load(file.with_name("training.npz")) as arrays:
            found.append(len(arrays["labels"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "training", lambda count: images.rows(slice(count)))
    monkeypatch.setattr(recipe, "judged", lambda part, count: images.rows(slice(count)))
    monkeypatch.setattr("edgeport.api.run", run)
    for short in (True, False):
        with pytest.raises(KeyboardInterrupt):
            recipe_part(Arguments(out=tmp_path, short=short))
    assert found == [SIZES[True]["training"], SIZES[False]["training"]]


@pytest.mark.parametrize(
    ("dafl", "holds"), [(0.8, [True] * 4), (0.15, [True, False, True, True]), (0.95, [True] * 3 + [False])]
)
def test_makers_are_held_to_one_that_learns_nothing(dafl: float, holds: list[bool]) -> None:
    means = {"data": 0.99, "vae": 0.96, "fast": 0.9, "dafl": dafl, "contrastive": 0.75}
    rows = [
        StudentRow(name=maker.name, seed=seed, top1=noise + (0.2 if maker is MAKERS[-1] else means[maker.method]))
        for maker in MAKERS
        for seed, noise in enumerate((0.0, 0.01, -0.01))
    ]

    assert [check.holds for check in digits_checks(rows)] == holds


@pytest.mark.parametrize(
    ("moved", "between", "alone", "holds"),
    [
        (0.5, 0.0, 2e-6, [True, True, True]),
        (0.0, 0.0, 0.0, [False, True, True]),
        (0.5, 1e-7, 1e-4, [True, False, False]),
    ],
)
def test_equal_weights_say_something_where_they_have_moved(moved, between, alone, holds) -> None:
    row = ProcessesRow(steps=9, moved=moved, between=between, alone=alone)

    assert [check.holds for check in processes_checks(row)] == holds


def test_weights_differ_by_the_largest_of_their_tensor() -> None:
    found = {"small": torch.tensor([0.1, -0.2]), "large": torch.tensor([10.0])}
    expected = {"small": torch.tensor([0.1, -0.1]), "large": torch.tensor([9.0])}

    assert difference(found, expected) == pytest.approx(0.5)
