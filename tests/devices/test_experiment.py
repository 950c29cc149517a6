from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from edgeport.contracts import ProcessTrace, TelemetrySample, TimeJob, TimerFacts, dump_json, load_json
from edgeport.devices.experiment import Round, order_of_round, run_rounds, to_measurements
from edgeport.devices.latency.timer import call_latency_ns
from edgeport.errors import BackendCrash, DeviceLost, MeasurementError

TRACE = ProcessTrace(
    artifact_digest="d",
    round=0,
    position=0,
    load_ns=1,
    first_inference_ns=1,
    warmup_ns=(),
    latency_ns=(1, 2),
    timer=TimerFacts(clock="c", resolution_ns=1, overhead_ns=0),
)


class ScriptedDevice:
    """Answers at once; `script` maps (arm, round) to the error that it raises."""

    def __init__(self, script=None):
        self.script = script or {}
        self.ran = []

    def run(self, job):
        self.ran.append((job.entry, job.round))
        if (job.entry, job.round) in self.script:
            raise self.script[job.entry, job.round]
        return replace(TRACE, artifact_digest=job.entry, round=job.round, position=job.position)


@pytest.fixture
def jobs(time_job):
    return {name: time_job(entry=name) for name in ("a", "b", "c")}


CRASH = BackendCrash(asked="time b", found="SIGSEGV", fix="report it")


def test_each_arm_runs_once_a_round_in_an_order_of_its_own(jobs):
    device = ScriptedDevice()
    rounds = run_rounds(device, jobs, rounds=20, seed=7)
    orders = [tuple(name for name, index in device.ran if index == one) for one in range(20)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) >= 4  # of 6
    assert [one.traces["a"].round for one in rounds] == list(range(20))
    assert {one.traces["a"].position for one in rounds} == {0, 1, 2}


def test_all_processes_of_an_arm_are_read_as_its_first():
    class Wavering(ScriptedDevice):
        def run(self, job):
            chosen = job.calls_per_reading or (3 if job.round == 0 else 1)
            return replace(super().run(job), calls_per_reading=chosen)

    jobs = {"a": TimeJob(artifact="", entry="a", session="s", feeds="f")}
    rounds = run_rounds(Wavering(), jobs, rounds=4)
    assert [one.traces["a"].calls_per_reading for one in rounds] == [3] * 4
    resumed = run_rounds(Wavering(), jobs, rounds=6, done=rounds)
    assert [one.traces["a"].calls_per_reading for one in resumed] == [3] * 6


def test_the_first_process_of_each_arm_loads_from_the_disk(jobs):
    cold = []

    class Watched(ScriptedDevice):
        def run(self, job):
            cold.append((job.entry, job.round, job.cold))
            return super().run(job)

    run_rounds(Watched(), jobs, rounds=3)
    assert {(name, index) for name, index, first in cold if first} == {(name, 0) for name in jobs}


def test_more_rounds_are_run_while_they_are_asked_for(jobs):
    asked = []

    def more(rounds):
        asked.append(len(rounds))
        return len(rounds) < 5

    device = ScriptedDevice()
    rounds = run_rounds(device, jobs, rounds=3, more=more)
    assert asked == [3, 4, 5]
    assert [one.index for one in rounds] == list(range(5))
    again = run_rounds(ScriptedDevice(), jobs, rounds=3, more=lambda _: False, done=rounds)
    assert again == rounds[:3]


def test_the_order_depends_on_the_seed_alone():
    assert order_of_round("abc", seed=1, index=4) == order_of_round("cba", seed=1, index=4)
    assert len({tuple(order_of_round("abc", seed=seed, index=0)) for seed in range(20)}) > 1


def test_an_arm_that_fails_is_dropped_and_the_others_go_on(jobs):
    device = ScriptedDevice({("b", 1): CRASH})
    rounds = run_rounds(device, jobs, rounds=4, seed=0)
    assert [set(one.traces) for one in rounds] == [{"a", "b", "c"}, {"a", "c"}, {"a", "c"}, {"a", "c"}]
    assert rounds[1].errors["b"]["code"] == "BACKEND_CRASH"
    assert ("b", 2) not in device.ran
    measurements = to_measurements(rounds, device="device")
    assert {name: len(one.traces) for name, one in measurements.items()} == {"a": 4, "b": 1, "c": 4}


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(jobs, kept):
    script = {("b", 1): CRASH}
    whole = run_rounds(ScriptedDevice(script), jobs, rounds=4, seed=3)
    stored = []
    run_rounds(ScriptedDevice(script), jobs, rounds=kept, seed=3, on_round=lambda one: stored.append(dump_json(one)))
    device = ScriptedDevice(script)
    done = [load_json(Round, data) for data in stored]
    fresh = []
    assert run_rounds(device, jobs, rounds=4, seed=3, done=done, on_round=fresh.append) == whole
    assert {index for _, index in device.ran} == set(range(kept, 4))
    assert [one.index for one in fresh] == list(range(kept, 4))


def test_rounds_of_another_experiment_are_refused(jobs):
    done = run_rounds(ScriptedDevice(), jobs, rounds=1, seed=3)
    with pytest.raises(MeasurementError, match="seed 3"):
        run_rounds(ScriptedDevice(), jobs, rounds=2, seed=4, done=done)
    with pytest.raises(MeasurementError, match="arms c"):
        run_rounds(ScriptedDevice(), {"a": jobs["a"], "b": jobs["b"]}, rounds=2, seed=3, done=done)


def test_a_lost_device_ends_the_experiment_and_leaves_what_was_done(jobs):
    device = ScriptedDevice({("a", 2): DeviceLost(asked="time a", found="silence", fix="look at the cable")})
    stored = []
    with pytest.raises(DeviceLost):
        run_rounds(device, jobs, rounds=4, seed=0, on_round=stored.append)
    assert [one.index for one in stored] == [0, 1]


def test_progress_counts_processes(jobs):
    events = []
    run_rounds(ScriptedDevice(), jobs, rounds=2, seed=0, on_progress=events.append)
    assert [(event.done, event.total) for event in events] == [(index, 6) for index in range(6)]


def test_real_processes_of_two_arms(device, time_job):
    jobs = {name: time_job({"busy_ns": busy_ns}) for name, busy_ns in (("fast", 50_000), ("slow", 150_000))}
    rounds = run_rounds(device, jobs, rounds=2, seed=1)
    measurements = to_measurements(rounds, device=device.facts().digest)
    assert measurements["fast"].artifact_digest != measurements["slow"].artifact_digest
    for fast, slow in zip(measurements["fast"].traces, measurements["slow"].traces, strict=True):
        assert np.median(call_latency_ns(slow)) > 2 * np.median(call_latency_ns(fast))


def test_each_process_waits_until_the_device_is_as_cool_as_before_the_first(jobs):
    class Warming(ScriptedDevice):
        goals: ClassVar = []

        def run(self, job):
            self.goals.append(job.cool_to_millicelsius)
            heat = {"zone0_soc_millicelsius": 41_000.0 + 5000 * len(self.goals), "zone1_gpu_millicelsius": 30_000.0}
            trace = super().run(job)
            return replace(trace, telemetry=(TelemetrySample(at_ns=0, values=heat),))

    asked = {name: replace(job, cool_down_s=30.0) for name, job in jobs.items()}
    run_rounds(Warming(), asked, rounds=3)
    assert Warming.goals == [None] + 8 * [48_000.0]
    Warming.goals.clear()
    run_rounds(Warming(), jobs, rounds=2)
    assert Warming.goals == 6 * [None]
