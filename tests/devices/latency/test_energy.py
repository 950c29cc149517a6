"""Joules from planted meters whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeport.contracts import TelemetrySample
from edgeport.devices.latency.energy import energy
from edgeport.testing.synthetic import SyntheticSession, simulate

IDLE_W, CALL_J, CALLS = 4.0, 0.05, 100
SECOND_NS = 1_000_000_000


def metered(values_at, *, processes=6, rest=True, seconds=2):
    """Traces with a rest of one second, then `seconds` of calls; `values_at(joules)` gives a reading's values."""
    total = IDLE_W * seconds + CALL_J * CALLS
    readings = [(0, 0.0, {"idle_starts": 1.0}), (1, IDLE_W, {"idle_ends": 1.0})] if rest else []
    readings += [(1 + i * seconds / 10, IDLE_W + total * i / 10, {}) for i in range(11)]
    samples = tuple(
        TelemetrySample(at_ns=int(at * SECOND_NS), values={**values_at(joules), **extra})
        for at, joules, extra in readings
    )
    measurement = simulate(SyntheticSession(), processes=processes, calls=CALLS)
    return replace(measurement, traces=tuple(replace(t, telemetry=samples, samples=CALLS) for t in measurement.traces))


def counter(joules):
    return {"energy_rapl0_uj": 1e6 * joules}


def test_the_calls_cost_what_is_above_the_rest():
    found = energy(metered(counter))
    assert found.per_sample_j.estimate == pytest.approx(CALL_J)
    assert found.idle_w == pytest.approx(IDLE_W)
    assert found.source == "rapl0"


def test_a_counter_that_begins_again_goes_on():
    found = energy(metered(lambda joules: {"energy_rapl0_uj": 1e6 * (joules % 6.0), "energy_rapl0_uj_range": 6e6}))
    assert found.per_sample_j.estimate == pytest.approx(CALL_J)


def test_packages_and_gpus_are_added():
    found = energy(metered(lambda joules: {"energy_rapl0_uj": 5e5 * joules, "energy_nvml0_uj": 5e5 * joules}))
    assert found.per_sample_j.estimate == pytest.approx(CALL_J)
    assert found.source == "nvml0, rapl0"


def test_the_power_of_a_board_is_summed_up_and_preferred():
    watts = {"power_ina3221_power1_uw": 1e6 * IDLE_W}
    found = energy(metered(lambda joules: {**watts, **counter(joules)}))
    assert found.per_sample_j.estimate == pytest.approx(0.0)  # this meter never saw the calls
    assert found.source == "ina3221 power1"


@pytest.mark.parametrize(
    ("measurement", "why"),
    [
        (metered(lambda _: {}), "no meter"),
        (metered(counter, rest=False), "no rest"),
        (metered(counter, seconds=1), "6.0 s of calls; 10 s are needed"),
        (metered(lambda joules: {"energy_rapl0_uj": 1e6 * (joules % 6.0)}), "not there all the time"),
    ],
    ids=["no meter", "no rest", "too short", "a counter of unknown range begins again"],
)
def test_what_is_not_measured_is_not_guessed(measurement, why):
    found = energy(measurement)
    assert found.per_sample_j is None
    assert why in found.refused
