"""What benchmark_app prints is read, and gains are taken within rounds."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import backends
from benchmarks.backends import APP, DEFAULTS, LOOP, TUNED, OutOfTimeError, gains, measure
from benchmarks.harness import printed, timing

PRINTED = """\
[ INFO ] Count:            533 iterations
[ INFO ] Duration:         2000.45 ms
[ INFO ] Latency:
[ INFO ]    Median:        9.21 ms
[ INFO ]    Average:       9.30 ms
[ INFO ] Throughput:   108.31 FPS
"""


def test_what_the_tool_prints_is_read():
    assert printed(PRINTED, "Median") == pytest.approx(9.21e6)
    assert printed(PRINTED, "Throughput") == pytest.approx(108.31)
    assert printed(PRINTED, "Duration") / printed(PRINTED, "Count") == pytest.approx(3.7532e6, rel=1e-4)
    with pytest.raises(ValueError, match="no Throughput"):
        printed("nothing", "Throughput")


def test_a_gain_is_better_above_one_for_both_goals():
    slow = (1, 2, 1, 3, 1, 1)
    fast = [{TUNED: 8.0 * each, APP: 10.0 * each, TUNED + LOOP: 4.0, APP + LOOP: 6.0} for each in slow]
    assert gains(fast, "latency", APP, of=LOOP) == pytest.approx((1.5, 1.5, 1.5))
    assert gains(fast, "latency", APP) == pytest.approx((1.25, 1.25, 1.25))
    assert gains(fast, "throughput", APP) == pytest.approx((0.8, 0.8, 0.8))


def test_rounds_are_kept_and_go_on_where_they_were(tmp_path):
    ran = []
    arms = {name: lambda name=name: {name: float(ran.append(name) or len(ran))} for name in (TUNED, APP)}
    folder = tmp_path / "rounds"
    first = measure(folder, arms, 2, math.inf)
    assert sorted(ran) == sorted([TUNED, APP] * 2)
    with pytest.raises(OutOfTimeError):
        measure(folder, arms, 3, 0.0)
    assert len(ran) == 4, "none begins when the time is up"
    assert measure(folder, arms, 2, 0.0) == first, "and those that are there are taken"
    assert measure(folder, arms, 3, math.inf)[:2] == first


@pytest.mark.parametrize(("dtype", "told"), [("float32", True), ("int64", False)])
def test_the_tool_is_fed_what_the_model_takes(monkeypatch, tmp_path, dtype, told):
    asked = []

    def run(arguments, **_):
        asked.append(arguments)
        return SimpleNamespace(returncode=0, stdout=PRINTED, stderr="")

    monkeypatch.setattr(timing.subprocess, "run", run)
    np.savez(tmp_path / "feeds.npz", x=np.ones((2, 3), dtype))
    artifact = SimpleNamespace(folder=tmp_path, entry="model.xml")
    files = SimpleNamespace(feeds=tmp_path / "feeds.npz", compiled=lambda *_, **__: artifact)

    found = backends.peer(files, "latency", 1)

    assert found == pytest.approx({APP: 9.21e6, APP + LOOP: 2000.45e6 / 533})
    assert ("-ip f32" in " ".join(asked[0])) is told
    assert backends.peer(files, "throughput", 1) == {APP: pytest.approx(108.31)}


def test_a_call_takes_its_median_and_of_the_loop_its_share(monkeypatch, tmp_path):
    trace = SimpleNamespace(elapsed_ns=60, samples=3, calls=(9, 11, 10))
    monkeypatch.setattr(backends, "LocalDevice", lambda _: SimpleNamespace(run=lambda _: trace))
    monkeypatch.setattr(timing, "call_latency_ns", lambda trace: trace.calls)
    monkeypatch.setattr(backends, "_fed", lambda _files, _batch: tmp_path / "feeds.npz")
    artifact = SimpleNamespace(
        folder=tmp_path, entry="model", session="", settings={}, execution=SimpleNamespace(batch=1)
    )
    files = SimpleNamespace(folder=tmp_path)
    assert backends.ours(TUNED, files, artifact, "latency", 1, 1) == {TUNED: 10.0, TUNED + LOOP: 20.0}
    assert backends.ours(DEFAULTS, files, artifact, "throughput", 1, 1) == {DEFAULTS: 5e7}


def test_checks_are_held_to_calls_and_the_loop_stands_beside_them(monkeypatch, tmp_path):
    given = {TUNED: 8.0, DEFAULTS: 12.0, APP: 10.0, TUNED + LOOP: 9.0, APP + LOOP: 4.5}
    done = {"net": {"latency": ({"chosen": "way", "folder": "f"}, [given] * 6)}}
    kept = {}

    def report(name, arguments, figures, checks, **more):
        del name, arguments
        kept.update(figures=figures, checks=checks, rows=more["tables"][0].rows)
        return 0

    monkeypatch.setattr(backends, "report", report)
    backends._report(None, done)
    assert [(check.value, check.holds) for check in kept["checks"]] == [(pytest.approx(1.25), True)]
    assert kept["figures"]["net, latency"]["loop_over_median_us"] == {TUNED: 0.001, APP: -0.0055}
    assert set(kept["figures"]["net, latency"]["gain_low_median_high"]) == {DEFAULTS, APP}
    assert [(row[3], row[4]) for row in kept["rows"]] == [
        (DEFAULTS, "1.500x"),
        (APP, "1.250x"),
        (APP + LOOP, "0.500x"),
    ]
