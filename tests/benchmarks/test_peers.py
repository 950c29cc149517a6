"""What is read of the peers' own words."""

import pytest

from benchmarks.harness import printed
from benchmarks.latency_peers import by_distance, difference
from edgeport.testing.synthetic import SyntheticSession, simulate


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        pytest.param("[ INFO ] Latency:\n[ INFO ]    Median:        35.02 ms\n", 35.02e6, id="milliseconds"),
        pytest.param("[ INFO ] Latency:\n[ INFO ]    Median:        35.02 us\n", 35.02e3, id="microseconds"),
    ],
)
def test_the_median_that_benchmark_app_prints(text, nanoseconds):
    assert printed(text, "Median") == pytest.approx(nanoseconds)


def test_no_median_is_no_number():
    with pytest.raises(ValueError, match=r"no Median: .*Average"):
        printed("[ INFO ]    Average:       35.89 ms", "Median")


def test_a_difference_is_the_end_of_its_interval_that_is_further_from_nothing():
    import numpy as np

    peer = np.linspace(90.0, 110.0, 12)
    found = difference(peer * np.linspace(1.00, 1.03, 12), peer)
    assert 0.01 < found.estimate < 0.02
    assert found.worst == max(abs(found.low), abs(found.high)) == found.high
    assert found.high > 0.02


def test_processes_are_told_apart_by_the_distance_of_their_processors():
    found = by_distance(simulate(SyntheticSession(), processes=9, apart=(2, 3, 7)))
    assert (found["processes near"], found["processes apart"]) == (6, 3)
    assert found["exchange_ns apart"] == pytest.approx(2.5 * found["exchange_ns near"])
    assert found["latency_ns apart"] == pytest.approx(1.6 * found["latency_ns near"], rel=0.05)
    assert "latency_ns apart" not in by_distance(simulate(SyntheticSession()))
