from __future__ import annotations

import pytest

from edgeport.contracts import Outcome, Roof, Work
from edgeport.devices.latency.roofline import roofline, roofline_flags
from edgeport.devices.latency.validity_flags import outcome_of

ROOF = Roof(operations_per_s=100e9, bytes_per_s=10e9)
COMPUTE = Work(operations=1e9, bytes=1e6)  # 10 ms at the peak, 0.1 ms to read
MEMORY = Work(operations=1e6, bytes=1e8)  # 0.01 ms at the peak, 10 ms to read


@pytest.mark.parametrize(("work", "bound"), [(COMPUTE, "compute"), (MEMORY, "memory")], ids=["compute", "memory"])
def test_the_longer_of_the_two_bounds_it(work, bound):
    found = roofline(20e6, work, ROOF)
    assert found.bound == bound
    assert found.least_ns == pytest.approx(10e6)
    assert found.share == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("median_ms", "flags", "outcome"),
    [
        (3.9, ["too-fast"], Outcome.INVALID),
        (4.1, ["near-peak"], Outcome.PASS),
        (9.9, ["near-peak"], Outcome.PASS),
        (12.0, [], Outcome.PASS),
        (199.0, [], Outcome.PASS),
        (201.0, ["overhead-bound"], Outcome.PASS),
    ],
)
def test_flags(median_ms, flags, outcome):
    found = roofline_flags(roofline(1e6 * median_ms, COMPUTE, ROOF))
    assert found == flags
    assert outcome_of(found) is outcome
