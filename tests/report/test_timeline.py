from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from edgeport.contracts import Measurement, ProcessTrace, TelemetrySample, TimerFacts
from edgeport.devices.latency.steady_state import Shape
from edgeport.report.timeline import Timeline, timeline

CALL_NS = 1_000_000
TIMER = TimerFacts(clock="CLOCK_MONOTONIC", resolution_ns=1, overhead_ns=1)


def trace(
    readings: Sequence[int],
    *,
    index: int = 0,
    start_ns: int = 0,
    telemetry: Sequence[tuple[int, Mapping[str, float]]] = (),
    scenario: str = "single-stream",
    elapsed_ns: int = 0,
) -> ProcessTrace:
    """One process; telemetry at nanoseconds after its start."""
    return ProcessTrace(
        artifact_digest="d",
        round=index,
        position=0,
        load_ns=1,
        first_inference_ns=1,
        warmup_ns=(),
        latency_ns=tuple(readings),
        scenario=scenario,
        elapsed_ns=elapsed_ns,
        started_at_ns=start_ns,
        timer=TIMER,
        telemetry=tuple(TelemetrySample(at_ns=start_ns + at_ns, values=values) for at_ns, values in telemetry),
    )


def laid(*traces: ProcessTrace, flags: tuple[str, ...] = (), buckets: int = 480) -> Timeline:
    measurement = Measurement(artifact_digest="d", device="here", seed=0, traces=traces, flags=flags)
    found = timeline(measurement, {"one": measurement}, buckets=buckets)
    if found is None:
        raise ValueError("no readings")
    return found


def noisy(count: int, seed: int, level: float = CALL_NS) -> list[int]:
    return [round(x) for x in level * np.exp(np.random.default_rng(seed).normal(0, 0.01, count))]


def test_no_readings_no_timeline() -> None:
    empty = Measurement(artifact_digest="d", device="here", seed=0, traces=(trace([]),))
    assert timeline(empty, {}) is None


def test_buckets_keep_extremes_and_number_of_calls() -> None:
    readings = [CALL_NS] * 5000
    readings[1234] = 99 * CALL_NS
    buckets = laid(trace(readings), buckets=100).buckets
    assert np.isfinite(buckets.median).sum() <= 100
    assert np.nanmax(buckets.high) == 99 * CALL_NS
    assert np.nanmax(buckets.median) == CALL_NS
    assert np.nansum(buckets.calls) == 5000


def test_processes_lie_side_by_side_in_the_order_of_their_rounds() -> None:
    late, early = trace(noisy(100, 1), index=1, start_ns=9_000_000_000), trace(noisy(50, 2), start_ns=2_000_000_000)
    found = laid(late, early)
    assert [slot.round for slot in found.slots] == [0, 1]
    assert found.slots[0].end_s == pytest.approx(0.05, rel=0.01)
    assert found.slots[1].begin_s > found.slots[0].end_s
    assert found.slots[1].end_s - found.slots[1].begin_s == pytest.approx(0.1, rel=0.01)
    assert [slot.started_s for slot in found.slots] == [0.0, 7.0]
    inside = found.buckets.round == 1
    assert found.buckets.at_s[inside].min() > found.slots[1].begin_s
    assert np.isnan(found.buckets.median[~np.isfinite(found.buckets.round)]).all()


def test_pauses_for_the_sensors_stretch_the_calls() -> None:
    samples: list[tuple[int, Mapping[str, float]]] = [(0, {"x": 0}), (110 * CALL_NS, {"x": 0})]
    found = laid(trace([CALL_NS] * 100, start_ns=5, telemetry=samples))
    assert found.end_s == pytest.approx(0.110)


def test_calls_that_overlap_are_spread_over_the_time_that_passed() -> None:
    found = laid(trace([CALL_NS] * 100, scenario="offline", elapsed_ns=25 * CALL_NS))
    assert found.end_s == pytest.approx(0.025)


def test_the_cut_is_where_the_slow_start_ends() -> None:
    found = laid(trace([*noisy(100, 3, 1.5 * CALL_NS), *noisy(700, 4)]))
    (slot,) = found.slots
    assert slot.shape is Shape.STEADY
    assert slot.cut_s == pytest.approx(0.15, rel=0.1)


def test_a_process_that_got_slower_has_no_cut() -> None:
    (slot,) = laid(trace([*noisy(400, 5), *noisy(400, 6, 1.3 * CALL_NS)])).slots
    assert slot.shape is Shape.SLOWDOWN
    assert slot.cut_s is None


@pytest.mark.parametrize(
    ("kept", "flag", "dropped"),
    [
        pytest.param((0, 1, 3), "dropped-rounds:1", [2], id="between"),
        pytest.param((0, 1, 2), "dropped-rounds:2", [3, 4], id="at-the-end"),
        pytest.param((1, 2, 4), "dropped-rounds:2", [0, 3], id="at-the-start"),
        pytest.param((0, 1, 2), "", [], id="none"),
    ],
)
def test_dropped_rounds_are_found(kept: tuple[int, ...], flag: str, dropped: list[int]) -> None:
    found = laid(*(trace(noisy(20, index), index=index) for index in kept), flags=(flag,) if flag else ())
    assert [one.round for one in found.dropped] == dropped
    assert [one.round for one in found.places] == sorted([*kept, *dropped])


def test_a_disturbed_round_that_was_kept_is_marked() -> None:
    def canary(index: int) -> list[tuple[int, Mapping[str, float]]]:
        return [(0, {"canary_ns": 9e6 if index == 2 else 4e6})]

    found = laid(*(trace(noisy(20, i), index=i, start_ns=7, telemetry=canary(i)) for i in range(5)))
    assert [slot.disturbed for slot in found.slots] == [False, False, True, False, False]
    assert found.canary is not None
    assert np.nanmax(found.canary.value) == 9e6


def test_the_fastest_processor_and_each_zone_are_followed() -> None:
    samples: list[tuple[int, Mapping[str, float]]] = [
        (step * 10 * CALL_NS, {
            "cpu0_freq_khz": 1e6, "cpu1_freq_khz": 3e6 - step, "zone0_x86_pkg_temp_millicelsius": 50e3 + step,
        })
        for step in range(11)
    ]  # fmt: skip
    found = laid(trace([CALL_NS] * 100, start_ns=5_000, telemetry=samples))
    assert found.frequency is not None
    assert found.frequency.value[:-1].tolist() == [3e6 - step for step in range(11)]
    assert np.diff(found.frequency.at_s[:-1]) == pytest.approx(0.01)
    (zone,) = found.temperatures
    assert zone.name == "zone0_x86_pkg_temp"
    assert zone.value[0] == 50e3


def test_of_many_readings_the_worst_stay() -> None:
    samples: list[tuple[int, Mapping[str, float]]] = [
        (step * CALL_NS, {"cpu0_freq_khz": 2e6 if step == 37 else 3e6, "zone0_cpu_millicelsius": 9e4 * (step == 51)})
        for step in range(100)
    ]
    found = laid(trace([CALL_NS] * 100, start_ns=5, telemetry=samples), buckets=10)
    assert found.frequency is not None
    assert np.isfinite(found.frequency.value).sum() == 10
    assert np.nanmin(found.frequency.value) == 2e6
    assert np.nanmax(found.temperatures[0].value) == 9e4


def test_without_sensors_there_are_no_curves() -> None:
    found = laid(trace(noisy(30, 1)))
    assert (found.frequency, found.temperatures, found.canary, found.slots[0].others) == (None, (), None, None)
