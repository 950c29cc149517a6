"""Summaries, budgets and the flags that forbid them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest

from edgeport.contracts import Outcome, Roof, TelemetrySample, TimerFacts, Work
from edgeport.devices.latency.interference import disturbed_rounds, without_disturbed
from edgeport.devices.latency.summary import summarise, with_roofline
from edgeport.devices.latency.throttling import retention
from edgeport.devices.latency.validity_flags import FLAGS, explain, measurement_flags, outcome_of
from edgeport.devices.latency.verdict import alpha_at, judge_budget
from edgeport.errors import MeasurementError
from edgeport.testing.synthetic import SyntheticSession, simulate

QUIET = simulate(SyntheticSession(), seed=1)


def _with(measurement, index=0, **changes):
    traces = list(measurement.traces)
    traces[index] = replace(traces[index], **changes)
    return replace(measurement, traces=tuple(traces))


def _telemetry(measurement, values):
    """The same telemetry in every process: one dict of values per reading, 0.2 s apart."""
    samples = tuple(TelemetrySample(at_ns=index * 200_000_000, values=one) for index, one in enumerate(values))
    return replace(measurement, traces=tuple(replace(trace, telemetry=samples) for trace in measurement.traces))


def _load(*, others=0.0, steal=0.0):
    """Two processors; this process uses one of them."""
    return [
        {
            "busy_ticks": 20.0 * i * (1 + 2 * others),
            "own_cpu_us": 200_000.0 * i,
            "steal_ticks": 40.0 * steal * i,
            "processors": 2.0,
            "clock_tick_hz": 100.0,
        }
        for i in range(5)
    ]


def test_a_quiet_measurement_passes():
    summary = summarise(QUIET, (0.5, 0.9, 0.99))
    assert (summary.outcome, summary.flags) == (Outcome.PASS, ())
    assert (summary.processes, summary.calls, summary.load_ns) == (10, 3000, 1e6)
    assert summary.steady >= 0.9
    assert summary.quantile(0.5).interval_ns.estimate == pytest.approx(1e6, rel=0.01)
    assert summary.quantile(0.99).interval_ns.estimate == pytest.approx(math.exp(0.03 * 2.326) * 1e6, rel=0.02)
    assert summary.quantile(0.3).interval_ns is None


def test_the_median_comes_first():
    assert [quantile.q for quantile in summarise(QUIET, (0.9,)).quantiles] == [0.5, 0.9]


def test_a_summary_of_nothing_is_an_error():
    with pytest.raises(MeasurementError, match="no traces"):
        summarise(replace(QUIET, traces=()))


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    measurement: object
    flag: str
    outcome: Outcome


TICK = TimerFacts(clock="coarse", resolution_ns=10_000, overhead_ns=1)
FAULTS = (
    Fault(
        name="wrong outputs",
        measurement=_with(QUIET, outputs_match=False),
        flag="outputs-mismatch",
        outcome=Outcome.INVALID,
    ),
    Fault(name="nan", measurement=_with(QUIET, flags=("nan-output",)), flag="nan-output", outcome=Outcome.INVALID),
    Fault(
        name="clock step", measurement=_with(QUIET, flags=("clock-step",)), flag="clock-step", outcome=Outcome.INVALID
    ),
    Fault(name="coarse clock", measurement=_with(QUIET, timer=TICK), flag="coarse-clock", outcome=Outcome.INVALID),
    Fault(
        name="throttle count",
        measurement=_telemetry(QUIET, [{"core_throttle_count": 3.0}, {"core_throttle_count": 4.0}]),
        flag="throttled",
        outcome=Outcome.INVALID,
    ),
    Fault(
        name="frequency drop",
        measurement=_telemetry(QUIET, [{"cpu0_freq_khz": 3e6, "cpu1_freq_khz": 1e6}] * 8 + [{"cpu0_freq_khz": 2e6}]),
        flag="frequency-drop",
        outcome=Outcome.INVALID,
    ),
    *(
        Fault(name=name, measurement=_telemetry(QUIET, values), flag=flag, outcome=Outcome.INVALID)
        for name, flag, *values in (
            ("over-current of a Jetson", "throttled", {"over_current1_count": 7.0}, {"over_current1_count": 8.0}),
            (
                "the kernel cools a CPU",
                "throttled",
                {"cooling0_cpufreq-cpu0_state": 0.0},
                {"cooling0_cpufreq-cpu0_state": 1.0},
            ),
            ("heat of a GPU", "throttled", {"nvml0_throttle_bits": 0.0}, {"nvml0_throttle_bits": 64.0}),
            ("low voltage now", "throttled", {"vcgencmd_throttled_bits": 0.0}, {"vcgencmd_throttled_bits": 1.0}),
            ("throttled meanwhile", "throttled", *({"vcgencmd_throttled_bits": bits} for bits in (65536.0, 327680.0))),
            ("Android holds back", "throttled", {"canary_ns": 1e6, "android_thermal_status": 1.0}),
            ("another power mode", "power-mode", {"nvpmodel_mode": 0.0}, {"nvpmodel_mode": 2.0}),
        )
    ),
    Fault(
        name="rival load",
        measurement=_telemetry(QUIET, _load(others=0.4)),
        flag="rival-load",
        outcome=Outcome.INCONCLUSIVE,
    ),
    Fault(name="steal", measurement=_telemetry(QUIET, _load(steal=0.1)), flag="steal", outcome=Outcome.INCONCLUSIVE),
    Fault(
        name="throttle step",
        measurement=simulate(SyntheticSession(step=0.08)),
        flag="slowdown",
        outcome=Outcome.INCONCLUSIVE,
    ),
    Fault(
        name="drift", measurement=simulate(SyntheticSession(drift=0.05)), flag="slowdown", outcome=Outcome.INCONCLUSIVE
    ),
    Fault(
        name="three calls",
        measurement=simulate(SyntheticSession(), calls=3),
        flag="too-short",
        outcome=Outcome.INCONCLUSIVE,
    ),
    Fault(name="unknown flag", measurement=_with(QUIET, flags=("on-fire",)), flag="on-fire", outcome=Outcome.INVALID),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_flagged_and_never_passes(fault):
    summary = summarise(fault.measurement)
    assert fault.flag in summary.flags
    assert summary.outcome is fault.outcome
    verdict = judge_budget(fault.measurement, q=0.5, limit_ns=1e9)
    assert verdict.outcome is fault.outcome
    assert fault.flag in verdict.reason


@pytest.mark.parametrize(
    "quiet",
    [
        _telemetry(QUIET, _load(others=0.05, steal=0.001)),
        _telemetry(QUIET, [{"core_throttle_count": 3.0}] * 4),
        _telemetry(QUIET, [{"cpu0_freq_khz": 3e6, "cpu1_freq_khz": 1e6 * (1 + i % 2)} for i in range(9)]),
        _telemetry(QUIET, []),
        _telemetry(
            QUIET, [{"vcgencmd_throttled_bits": 327680.0, "nvml0_throttle_bits": 4.0, "nvpmodel_mode": 2.0}] * 3
        ),
        _telemetry(QUIET, [{"android_thermal_status": 0.0, "cooling1_backlight_state": 3.0}] * 3),
    ],
    ids=[
        *(
            "little load",
            "old throttling",
            "an idle core's frequency",
            "no sensors",
            "what was before, and a power cap",
        ),
        "a phone at rest",
    ],
)
def test_a_quiet_machine_is_not_flagged(quiet):
    assert measurement_flags(quiet) == ()


@pytest.mark.parametrize(
    ("session", "flag"),
    [
        (SyntheticSession(spike_rate=0.02), "spikes"),
        (SyntheticSession(process_sd=0.03), "process-spread"),
        (SyntheticSession(rho=0.9), "dependent-calls"),
    ],
)
def test_effects_that_the_interval_allows_for_are_noted(session, flag):
    summary = summarise(simulate(session, calls=1000, seed=3))
    assert flag in summary.flags
    assert FLAGS[flag][0] is Outcome.PASS


def test_every_flag_is_explained():
    assert all(explain(flag) for flag in FLAGS)
    assert explain("dropped-rounds:2") == "rounds in which the machine was disturbed were left out, of all arms (2)"
    assert outcome_of(["dropped-rounds:2"]) is Outcome.PASS


@pytest.mark.parametrize(
    ("limit_ns", "outcome"),
    [(1.01e6, Outcome.PASS), (0.99e6, Outcome.FAIL), (1.0005e6, Outcome.INCONCLUSIVE)],
)
def test_a_budget_is_judged(limit_ns, outcome):
    verdict = judge_budget(QUIET, q=0.5, limit_ns=limit_ns)
    assert verdict.outcome is outcome
    assert f"{limit_ns / 1e6:.4g} ms" in verdict.reason


@pytest.mark.parametrize(("forcing", "begin"), [("steal", "leave it open"), ("nan-output", "forbid its use")])
def test_a_budget_left_open_names_the_flags_that_do_it(forcing, begin):
    """And no notes, nor what is outweighed by worse."""
    worse = _with(QUIET, flags=("dropped-rounds:4", "steal", forcing))
    assert judge_budget(worse, q=0.5, limit_ns=1e9).reason == f"flags {begin}: {forcing}"


def test_a_tail_budget_needs_calls_enough():
    assert judge_budget(QUIET, q=0.99, limit_ns=1.2e6).outcome is Outcome.PASS
    verdict = judge_budget(QUIET, q=0.999, limit_ns=1.2e6)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "p99.9 needs" in verdict.reason


def test_three_processes_that_differ_pass_no_tight_budget():
    quick = simulate(SyntheticSession(process_sd=0.02), processes=3, seed=2)
    assert judge_budget(quick, q=0.5, limit_ns=1.02e6).outcome is Outcome.INCONCLUSIVE


def test_looking_again_costs_confidence():
    assert sum(alpha_at(look) for look in range(1, 2000)) == pytest.approx(0.05, rel=1e-3)
    first, fifth = (judge_budget(QUIET, q=0.5, limit_ns=1.01e6, look=look) for look in (1, 5))
    assert fifth.interval_ns.high > first.interval_ns.high


def test_rounds_with_a_neighbour_are_dropped_from_all_arms():
    effects = (0.0, 0.0, 0.4, 0.0, 0.0, 0.5)
    arms = {name: simulate(SyntheticSession(), seed=seed, round_effects=effects) for seed, name in enumerate("ab")}
    assert disturbed_rounds(arms) == (2, 5)
    kept = without_disturbed(arms)
    assert {len(one.traces) for one in kept.values()} == {8}
    assert "dropped-rounds:2" in summarise(kept["a"]).flags
    assert without_disturbed(arms, least=9) == arms


def test_rounds_with_processors_apart_are_dropped_from_all_arms():
    arms = {name: simulate(SyntheticSession(), seed=seed, apart=(1, 4, 5)) for seed, name in enumerate("ab")}
    assert disturbed_rounds(arms) == (1, 4, 5)
    kept = without_disturbed(arms)["a"]
    assert len(kept.traces) == 7
    assert summarise(kept).quantile(0.5).interval_ns.high < 1.05e6
    assert "processors-moved" not in summarise(kept).flags


def test_processors_that_are_mostly_apart_are_named():
    arms = {"a": simulate(SyntheticSession(), apart=range(6))}
    assert without_disturbed(arms) == arms, "too few would be left"
    found = summarise(arms["a"])
    assert "processors-moved" in found.flags
    assert found.outcome is Outcome.PASS


def test_few_rounds_have_no_usual():
    arms = {"a": simulate(SyntheticSession(), processes=3, round_effects=(0.0, 0.0, 0.5))}
    assert disturbed_rounds(arms) == ()


def test_retention_tells_burst_from_sustained():
    (trace, *_) = simulate(SyntheticSession(step=0.2), processes=1).traces
    assert retention(trace) == pytest.approx(math.exp(0.2), rel=0.02)


def test_samples_per_second_come_with_an_interval_over_processes():
    measurement = replace(
        QUIET,
        traces=tuple(
            replace(trace, samples=2000, elapsed_ns=int(1e9 * (1 + 0.01 * index)), scenario="offline")
            for index, trace in enumerate(QUIET.traces)
        ),
    )
    summary = summarise(measurement)
    assert summary.scenario == "offline"
    assert summary.throughput_per_s.low < 2000 / 1.045 < summary.throughput_per_s.high
    assert summarise(QUIET).throughput_per_s is None  # nobody counted


def test_the_first_load_is_told_apart():
    assert summarise(QUIET).first_load_ns is None
    summary = summarise(_with(QUIET, cold=True, load_ns=90_000_000))
    assert summary.first_load_ns == 90_000_000
    assert summary.load_ns == QUIET.traces[1].load_ns


def test_a_latency_that_the_device_cannot_reach_is_invalid():
    median_ns = summarise(QUIET).quantile(0.5).interval_ns.estimate
    work, roof = Work(operations=3e-9 * median_ns, bytes=0.0), Roof(operations_per_s=1.0, bytes_per_s=1.0)
    summary = with_roofline(summarise(QUIET), work, roof)
    assert summary.outcome is Outcome.INVALID
    assert "too-fast" in summary.flags
    assert summary.roofline.share == pytest.approx(3.0)
    honest = with_roofline(summarise(QUIET), replace(work, operations=0.5e-9 * median_ns), roof)
    assert honest.outcome is Outcome.PASS


def test_a_rival_is_no_excuse_for_what_is_far_too_slow():
    """1 ms a call beside a rival: 2 ms can't be told, 0.5 ms can."""
    loaded = _telemetry(QUIET, _load(others=0.8))
    assert "rival-load" in measurement_flags(loaded)
    assert judge_budget(loaded, q=0.5, limit_ns=2e6).outcome is Outcome.INCONCLUSIVE
    hopeless = judge_budget(loaded, q=0.5, limit_ns=0.5e6)
    assert hopeless.outcome is Outcome.FAIL
    assert "even the fastest calls" in hopeless.reason
    invalid = _with(loaded, flags=("clock-step",))
    assert judge_budget(invalid, q=0.5, limit_ns=0.5e6).outcome is Outcome.INVALID
