"""What benchmark_app prints is read, and gains are taken within rounds."""

import pytest

from benchmarks.backends import APP, LOOP, TUNED, Deadline, OutOfTimeError, gains, measure, printed

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
    fast = [{TUNED: 8.0 * each, APP: 10.0 * each, TUNED + LOOP: 4.0, APP + LOOP: 5.0} for each in slow]
    assert gains(fast, "latency", APP, of=LOOP) == pytest.approx((1.25, 1.25, 1.25))
    assert gains(fast, "latency", APP) == pytest.approx((1.25, 1.25, 1.25))
    assert gains(fast, "throughput", APP) == pytest.approx((0.8, 0.8, 0.8))


def test_rounds_are_kept_and_go_on_where_they_were(tmp_path):
    ran = []
    arms = {name: lambda name=name: {name: float(ran.append(name) or len(ran))} for name in (TUNED, APP)}
    folder = tmp_path / "rounds"
    first = measure(folder, arms, 2, Deadline())
    assert sorted(ran) == sorted([TUNED, APP] * 2)
    with pytest.raises(OutOfTimeError):
        measure(folder, arms, 3, Deadline(at_s=0.0))
    assert len(ran) == 4, "none begins when the time is up"
    assert measure(folder, arms, 2, Deadline(at_s=0.0)) == first, "and those that are there are taken"
    assert measure(folder, arms, 3, Deadline())[:2] == first
