"""Burst and sustained: a device that slows down, one that does not, and what the waiting for cool does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeport.contracts import TelemetrySample
from edgeport.devices.agent.cooling import cool_down
from edgeport.devices.agent.sustained import _spread, sustained
from edgeport.devices.agent.telemetry import Telemetry
from edgeport.devices.latency.endurance import endurance, paused_s
from edgeport.errors import MeasurementError
from edgeport.testing.synthetic import SyntheticSession, simulate

(TRACE, *_) = simulate(SyntheticSession(), processes=1).traces


def soaked(latency_ms, *, hot=lambda at_s: 45.0, kept=20, **values):
    """One slot of 1 s for each latency, with `kept` readings in it."""
    random = np.random.default_rng(0)
    readings = [int(1e6 * one * (1 + 0.01 * random.standard_normal())) for one in latency_ms for _ in range(kept)]
    samples = [TelemetrySample(at_ns=0, values={})]
    for index in range(len(latency_ms)):
        heat = {"zone0_soc_millicelsius": 1000 * hot(index)}
        samples.append(TelemetrySample(at_ns=(index + 1) * 10**9, values={"kept_readings": kept, **heat, **values}))
    return replace(
        TRACE,
        scenario="sustained",
        started_at_ns=0,
        latency_ns=tuple(readings),
        calls_per_reading=1,
        telemetry=tuple(samples),
    )


def test_a_device_that_slows_down_has_two_numbers():
    found = endurance(soaked([1.0] * 120 + [1.5] * 480, hot=lambda at_s: min(85.0, 40 + at_s)))
    assert found.burst_ns.low < 1.0e6 < found.burst_ns.high
    assert found.sustained_ns.low < 1.5e6 < found.sustained_ns.high
    assert found.retention == pytest.approx(1 / 1.5, rel=0.01)
    assert found.slowed_after_s == pytest.approx(121, abs=4)
    assert (found.first_celsius, found.hottest_celsius) == (40.0, 85.0)
    assert found.duration_s == 600


def test_a_device_that_keeps_its_speed_has_the_same_one_twice():
    found = endurance(soaked([1.0] * 300))
    assert found.retention == pytest.approx(1.0, abs=0.01)
    assert found.slowed_after_s is None
    assert not found.throttled


def test_a_slow_minute_in_between_is_no_slowing_down():
    assert endurance(soaked([1.0] * 100 + [2.0] * 60 + [1.0] * 140)).slowed_after_s is None


def test_a_process_that_stood_still_is_known():
    trace = soaked([1.0] * 100)
    late = [
        replace(one, at_ns=one.at_ns + (60 * 10**9 if index > 50 else 0)) for index, one in enumerate(trace.telemetry)
    ]
    assert paused_s(replace(trace, telemetry=tuple(late))) == pytest.approx(60)
    assert paused_s(trace) == 0


def test_slow_calls_are_no_pause():
    trace = soaked([40_000.0] * 10, kept=1)
    slow = tuple(replace(one, at_ns=40 * one.at_ns) for one in trace.telemetry)
    assert paused_s(replace(trace, telemetry=slow)) == 0


def test_what_the_device_says_is_told():
    assert endurance(soaked([1.0] * 30, **{"cooling0_cpufreq-cpu0_state": 2.0})).throttled


def test_too_short_is_refused():
    with pytest.raises(MeasurementError, match="1 slots"):
        endurance(soaked([1.0]))


def test_readings_are_thinned_and_counted(tmp_path):
    telemetry = Telemetry(tmp_path)
    timed = sustained(lambda: None, {"duration_s": 0.35}, 1, telemetry)
    counts = [int(sample["values"].get("kept_readings", 0)) for sample in telemetry.samples]
    assert sum(counts) == len(timed.latency_ns)
    assert max(counts) <= 100
    assert timed.calls > 10 * len(timed.latency_ns)
    assert len(counts) >= 4


def test_what_is_kept_is_spread_over_the_slot():
    from array import array

    readings = array("q", range(1000))
    assert _spread(readings, 1000).tolist() == list(range(0, 1000, 10))
    assert _spread(readings, 7).tolist() == list(range(7))
    assert len(_spread(readings, 101)) == 51


@pytest.fixture
def zone(tmp_path):
    (tmp_path / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    return tmp_path / "sys/class/thermal/thermal_zone0/temp"


def _job(**changes):
    return {"cool_down_s": 0.2, "cool_to_millicelsius": 50_000.0, "round": 1, "position": 0, **changes}


def test_a_hot_device_rests_until_it_is_cool_or_the_time_is_up(zone, tmp_path):
    zone.write_text("48000\n")
    assert cool_down(_job(), tmp_path)["cooled_s"] < 0.1
    zone.write_text("70000\n")
    assert cool_down(_job(), tmp_path)["cooled_s"] >= 0.2


def test_without_a_zone_it_rests_all_of_the_time(tmp_path):
    assert cool_down(_job(), tmp_path)["cooled_s"] >= 0.2


def test_nobody_rests_before_the_first_process_or_unasked(zone, tmp_path):
    zone.write_text("70000\n")
    assert cool_down(_job(round=0), tmp_path) == {}
    assert cool_down(_job(cool_down_s=0.0), tmp_path) == {}
