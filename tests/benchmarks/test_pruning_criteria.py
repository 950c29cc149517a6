"""What the benchmark of criteria claims, over rows that are made up."""

from __future__ import annotations

import pytest

from benchmarks.pruning.checks import Row, checks, paired, table


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


def test_the_table_has_a_line_for_each() -> None:
    assert table([*_rows("l1", [0.5]), *_rows("random", [0.1, 0.3])]).rows == (
        ("channels", "l1", "edgeport", "0.5000", "0.5000 to 0.5000"),
        ("channels", "random", "edgeport", "0.2000", "0.1000 to 0.3000"),
    )
