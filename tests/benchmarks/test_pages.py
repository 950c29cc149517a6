"""A page says what holds, what does not, and how it was found."""

from __future__ import annotations

import pytest

from benchmarks.pages import page

RESULTS = {
    "benchmark": "cold_start",
    "short": False,
    "seed": 3,
    "machine": {"cpu": "A CPU", "cores": 2, "memory_bytes": 24 << 30},
    "versions": {"python": "3.11.9", "numpy": "2.0"},
    "figures": {"extra": {"edgeport --help": [0.03, 0.041, 0.05]}, "raw": list(range(100)), "rounds": 21},
    "checks": [
        {"name": "CPU s", "value": 0.0412345, "bound": 0.2, "holds": True},
        {"name": "wall s", "value": 3.0, "bound": 1.0, "holds": False},
    ],
}


@pytest.mark.parametrize(
    "line",
    [
        "1 of 2 checks hold.",
        "| CPU s | 0.04123 | 0.2 | holds |",
        "| wall s | 3 | 1 | **falls short** |",
        "python -m benchmarks.cold_start --out FOLDER",
        "Measured on A CPU, 2 processors, 24 GiB; python 3.11.9, numpy 2.0; seed 3.",
        "| extra: edgeport --help | 0.03 .. 0.041 .. 0.05 |",
        "| rounds | 21 |",
    ],
)
def test_what_a_page_holds(line):
    assert line in page(RESULTS, "How long it takes.").splitlines()


def test_a_short_run_is_no_evidence():
    assert "no evidence" in page({**RESULTS, "short": True}, "How long it takes.")


def test_tables_follow_the_checks():
    tables = [{"title": "Times", "columns": ["model", "s"], "rows": [["a | b", "3\n"]]}]
    lines = page({**RESULTS, "tables": tables}, "How long it takes.").splitlines()
    start = lines.index("## Times")
    assert lines[start + 2 : start + 5] == ["| model | s |", "|---|---|", "| a / b | 3 |"]
    assert start < lines.index("## Figures")


def test_parts_that_did_not_run_are_named():
    lines = page({**RESULTS, "parts": {"run": ["one", "two"], "not_run": ["three"]}}, "How long.").splitlines()
    assert "python -m benchmarks.cold_start --out FOLDER --part one --part two" in lines
    assert "Not run, so that nothing is said of it here: three." in lines
    whole = page({**RESULTS, "parts": {"run": ["one"], "not_run": []}}, "How long.")
    assert "--part" not in whole
