"""The part of the benchmarks that decides whether a claim holds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import Arguments, at_least, at_most, median_interval, report

ROOT = Path(__file__).parents[2]


def test_checks_hold_at_their_bound_and_not_beyond():
    assert at_most("x", 0.2, 0.2).holds
    assert not at_most("x", 0.2000001, 0.2).holds
    assert at_least("x", 2, 2).holds
    assert not at_least("x", 1.99, 2).holds


@pytest.mark.parametrize("count", [7, 21, 40])
def test_the_interval_of_a_median_covers_it(count):
    """Of a skewed distribution whose median is known."""
    order = random.Random(1)
    covered = 0
    for _ in range(1000):
        low, middle, high = median_interval([order.expovariate(1) for _ in range(count)])
        assert low <= middle <= high
        covered += low <= 0.6931471805599453 <= high
    assert 935 <= covered <= 999


def test_too_few_values_have_no_interval():
    with pytest.raises(ValueError, match="too few"):
        median_interval([1, 2, 3, 4, 5])


@pytest.mark.parametrize(("value", "status"), [(1.0, 0), (3.0, 1)])
def test_report_writes_everything_and_exits_by_the_checks(tmp_path, capsys, value, status):
    arguments = Arguments(out=tmp_path, short=True)
    assert report("demo", arguments, {"runs_s": [1.0]}, [at_most("time", value, 2.0)], seed=3) == status
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["checks"] == [{"name": "time", "value": value, "bound": 2.0, "holds": status == 0}]
    assert written["figures"] == {"runs_s": [1.0]}
    assert written["seed"] == 3
    assert written["versions"]["edgeport"]
    assert written["machine"]["cores"] >= 1
    assert ("FALLS SHORT" in capsys.readouterr().out) == (status == 1)


@pytest.mark.slow
def test_cold_start_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.cold_start", "--out", str(tmp_path), "--short"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode in (0, 1)
    assert json.loads((tmp_path / "results.json").read_text())["checks"]
