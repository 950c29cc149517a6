"""The benchmark of distillation, with data: what is claimed from rows, what a folder keeps, where methods look."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.distillation.learn import spec_of
from benchmarks.distillation.methods import ALONE, WAYS, methods_checks
from benchmarks.distillation.methods import CANDIDATES as MANY_WAYS
from benchmarks.distillation.sentences import SentenceRow, drop_interval, sentences_checks
from benchmarks.distillation.students import StudentRow
from benchmarks.distillation.wide import WideResNet, student
from benchmarks.distillation.with_data import CANDIDATES, METHODS, with_data_checks
from benchmarks.harness import kept_by_key
from benchmarks.harness.training import trained
from edgeport.exporter.distill.loss_factory import make_objective
from edgeport.exporter.distill.teacher_student import Network, Pair


def rows(gain: float) -> list[StudentRow]:
    found = []
    for seed, noise in enumerate((0.0, 0.002, -0.001)):
        found.append(StudentRow(name="no teacher", seed=seed, top1=0.8 + noise))
        found += [StudentRow(name=name, seed=seed, top1=0.8 + gain + 2 * noise) for name in ("response", "feature")]
    return found


@pytest.mark.parametrize(("gain", "holds"), [(0.02, True), (0.002, False), (-0.02, False)])
def test_a_gain_counts_where_seeds_agree_on_it(gain: float, holds: bool) -> None:
    found = with_data_checks(rows(gain))

    assert [check.holds for check in found] == [holds, holds]


def test_each_way_is_held_against_labels_alone() -> None:
    rows = [
        StudentRow(name=way.name, seed=seed, top1=noise + (0.9 if way.teacher == "nobody" else 0.95))
        for way in WAYS
        for seed, noise in enumerate((0.0, 0.004, -0.004))
    ]
    losing = [replace(row, top1=0.9 + 0.01 * (row.seed - 1)) if "hints" in row.name else row for row in rows]

    held = {check.name.partition(" above ")[0]: check.holds for check in methods_checks(losing)}
    assert len(held) == len(WAYS) - 1
    assert [name for name, holds in held.items() if not holds] == ["methods: feature: hints"]


def test_every_term_with_data_has_a_way_of_its_own() -> None:
    spelled = " ".join(term for way in WAYS for term in (*way.L, *way.R))
    for name in ("soft-targets", "decoupled", "output-difference", "hints", "attention", "relational", "adversarial"):
        assert name in spelled
    assert {way.teacher for way in WAYS} == {"network", "average", "earlier", "nobody"}
    assert len({way.name for way in MANY_WAYS}) == len(MANY_WAYS)
    assert WAYS[0].name == ALONE


@pytest.mark.parametrize(("drop", "ratio", "holds"), [(0.02, 0.5, [True, True]), (0.04, 0.6, [False, False])])
def test_sentences_are_held_to_the_worse_end(drop: float, ratio: float, holds: list[bool]) -> None:
    found = [SentenceRow(name="whole", spearman=0.86), SentenceRow(name="cut", spearman=0.85, drop=(0.0, drop))]

    assert [check.holds for check in sentences_checks(found, (0.1, 0.2, ratio))] == holds


def test_the_drop_of_equal_scores_is_nothing_and_of_noise_is_something() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal(200)
    whole = truth + 0.1 * random.standard_normal(200)

    assert drop_interval(whole, whole, truth) == (0.0, 0.0)
    low, high = drop_interval(whole, truth + random.standard_normal(200), truth)
    assert 0.1 < low < high < 0.6


def test_a_folder_keeps_to_its_settings_and_finished_work_is_taken(tmp_path: Path) -> None:
    spec = spec_of(L=["cosine"], seed=0)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "spec.json").write_text(json.dumps(spec, sort_keys=True), encoding="utf-8")
    (tmp_path / "one" / "told.json").write_text("{}", encoding="utf-8")

    assert trained("none", tmp_path / "one", spec) == tmp_path / "one"
    with pytest.raises(ValueError, match="other settings"):
        trained("none", tmp_path / "one", spec | {"seed": 1})


def test_a_row_is_kept_by_its_key_and_a_stopped_one_is_made_again(tmp_path: Path) -> None:
    places = []

    def stopped(place: Path) -> float:
        places.append(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_by_key(tmp_path, "one", {"seed": 0}, stopped)
    assert kept_by_key(tmp_path, "one", {"seed": 0}, lambda place: float(place == places[0])) == 1.0
    assert kept_by_key(tmp_path, "one", {"seed": 0}, stopped) == 1.0
    assert kept_by_key(tmp_path, "one", {"seed": 1}, lambda _: 0.5) == 0.5


def test_methods_look_where_both_networks_have_the_same_pixels() -> None:
    images = torch.zeros(2, 3, 32, 32)
    small, large = Network(module=student(0)), Network(module=WideResNet(40, 2))

    for terms in {**METHODS, **CANDIDATES}.values():
        pair = Pair(small, large, make_objective(terms, (), 0.0), {"images": images}, torch.optim.SGD)
        inside = pair.taught({"images": images})[1].values()
        assert [one.shape[2] for one in inside] == ([32, 16, 8] if any("attention" in one for one in terms) else [])
