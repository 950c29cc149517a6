from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgeport.backends.artifacts import artifact_digest
from edgeport.contracts import EvaluateJob, Limits
from edgeport.devices.agent.arrays import load_arrays, save_arrays
from edgeport.devices.agent.telemetry import processors
from edgeport.errors import (
    BackendCrash,
    BackendError,
    ChildTimeout,
    DependencyError,
    DeviceError,
    ResourceLimit,
    SamplesError,
)


def test_a_trace_keeps_every_time_apart(device, time_job, artifact):
    job = time_job({"busy_ns": 200_000, "open_s": 0.05}, round=3, position=1)
    trace = device.run(job)
    assert trace.load_ns > 50e6
    assert trace.first_inference_ns > 200_000
    assert min(trace.latency_ns) >= 200_000
    assert len(trace.latency_ns) >= job.minimum_calls
    assert trace.calls_per_reading == 1
    assert sum(trace.warmup_ns) >= 0.2 * 1e9 * job.warmup_s  # the rest may be a neighbour's
    assert (trace.round, trace.position) == (3, 1)
    assert (trace.outputs_match, trace.output_difference) == (True, 0.0)
    assert trace.flags == ()
    assert trace.artifact_digest == artifact_digest(artifact / "model", job.settings)
    assert 10 << 20 < trace.peak_memory_bytes < 1 << 30


def test_the_bounds_on_readings_hold(device, time_job):
    short = device.run(time_job({"busy_ns": 3_000_000}, duration_s=0.01, minimum_calls=30))
    assert len(short.latency_ns) == 30
    capped = device.run(time_job({"busy_ns": 50_000}, duration_s=5.0, maximum_calls=40))
    assert len(capped.latency_ns) == 40


def test_the_import_of_a_runtime_is_not_part_of_the_load(device, time_job):
    trace = device.run(time_job({"import": "slow_runtime"}, session="slow_import_session"))
    assert trace.import_ns > 200e6
    assert trace.load_ns < 100e6


def test_telemetry_is_read_between_blocks(device, time_job):
    trace = device.run(time_job(duration_s=0.7))
    canaries = [sample for sample in trace.telemetry if "canary_ns" in sample.values]
    assert len(canaries) == 2
    if len(processors()) > 1 and hasattr(os, "sched_setaffinity"):
        assert [sample.values["exchange_ns"] > 0 for sample in canaries] == [True, True]
    assert len(trace.telemetry) >= 2 + 1 + 2
    assert sorted(sample.at_ns for sample in trace.telemetry) == [sample.at_ns for sample in trace.telemetry]


@dataclass(frozen=True, kw_only=True)
class Failure:
    name: str
    error: type[Exception]
    says: str


FAILURES = (
    Failure(name="crash", error=BackendCrash, says="SIGSEGV"),
    Failure(name="exit", error=BackendCrash, says="status 7"),
    Failure(name="hang", error=ChildTimeout, says="still at work"),
    Failure(name="memory", error=ResourceLimit, says="300 MiB"),
    Failure(name="bad-alloc", error=ResourceLimit, says="std::bad_alloc"),
    Failure(name="raise", error=BackendError, says="while running Conv_3"),
    Failure(name="open", error=BackendError, says=r"no kernel for Frobnicate\(19\)"),
)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_a_failure_becomes_its_error(device, time_job, failure):
    limits = Limits(time_s=2 if failure.name == "hang" else 30, memory_bytes=300 << 20)
    with pytest.raises(failure.error, match=failure.says) as caught:
        device.run(time_job({"fail": failure.name}, limits=limits))
    assert type(caught.value) is failure.error
    assert "m.txt" in caught.value.asked


@pytest.mark.parametrize("name", ["crash", "hang"])
def test_the_stack_of_a_dead_runtime_is_kept(device, time_job, name):
    with pytest.raises((BackendCrash, ChildTimeout)) as caught:
        device.run(time_job({"fail": name}, limits=Limits(time_s=3)))
    assert "in _crash" in caught.value.found or "in _hang" in caught.value.found
    stack = caught.value.details["stack"]
    assert "noise of a runtime" not in stack
    assert "session_fake_session" in stack


def test_a_missing_runtime_is_a_dependency_error(device, time_job):
    with pytest.raises(DependencyError, match="a_runtime_that_is_not_there"):
        device.run(time_job({"import": "a_runtime_that_is_not_there"}))


def test_an_unpacked_session_is_named(device, time_job):
    with pytest.raises(DeviceError, match="no_such_package"):
        device.run(time_job(session="no_such_package.session"))


def test_a_missing_entry_is_a_device_error(device, time_job):
    with pytest.raises(DeviceError, match="no such file in the artifact"):
        device.run(time_job(entry="other.txt"))


def test_feeds_that_do_not_fit_are_a_samples_error(device, time_job, tmp_path):
    save_arrays(tmp_path / "feeds.npz", {"x": np.zeros((4, 3))})
    with pytest.raises(SamplesError, match="takes float32"):
        device.run(time_job(feeds=str(tmp_path / "feeds.npz")))


def test_damaged_feeds_are_a_device_error(device, time_job, tmp_path):
    (tmp_path / "feeds.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DeviceError, match=r"feeds\.npz"):
        device.run(time_job(feeds=str(tmp_path / "feeds.npz")))


@pytest.mark.parametrize(
    ("settings", "flags", "match"),
    [
        ({"nan_after": 3}, {"nan-output", "unstable-output"}, False),
        ({"drift_after": 3}, {"unstable-output"}, False),
        ({"scale": 2.5}, set(), False),
        ({"scale": 2.001}, set(), True),
        ({"flatten": True}, {"output-shape"}, False),
    ],
    ids=["nan", "drifts", "wrong", "within tolerance", "another shape"],
)
def test_outputs_of_timed_calls_are_checked(device, time_job, settings, flags, match):
    trace = device.run(time_job({"busy_ns": 50_000} | settings))
    assert set(trace.flags) == flags
    assert trace.outputs_match is match


def test_without_a_reference_nothing_is_said_of_outputs(device, time_job):
    trace = device.run(time_job(reference=None))
    assert trace.outputs_match is None
    assert trace.output_difference is None


@pytest.mark.parametrize("batch", [1, 4, 10])
def test_evaluate_runs_every_sample(device, time_job, artifact, tmp_path, batch):
    job = time_job()
    shared = {name: getattr(job, name) for name in ("artifact", "entry", "session", "settings", "feeds", "limits")}
    trace = device.run(EvaluateJob(**shared, outputs=str(tmp_path / "outputs.npz"), batch=batch))
    assert len(trace.latency_ns) == -(-10 // batch)
    outputs = load_arrays(str(tmp_path / "outputs.npz"))
    np.testing.assert_array_equal(outputs["x_out"], load_arrays(str(artifact / "reference.npz"))["x_out"])


def test_evaluate_refuses_outputs_without_a_batch_axis(device, time_job, tmp_path):
    job = time_job({"flatten": True})
    shared = {name: getattr(job, name) for name in ("artifact", "entry", "session", "settings", "feeds", "limits")}
    with pytest.raises(BackendError, match=r"output x_out of shape \(12,\)"):
        device.run(EvaluateJob(**shared, outputs=str(tmp_path / "outputs.npz"), batch=4))
    assert not list(tmp_path.iterdir())


def test_facts_are_the_same_when_asked_again(device):
    facts = device.facts()
    assert facts.digest == replace(device.facts()).digest
    assert facts.cores >= 1
    assert facts.memory_bytes > 1 << 28
    assert "numpy" in facts.runtimes
    assert facts.cpu
    assert facts.system


def test_push_and_pull(device, tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc")
    place = device.push(file)
    device.pull(place, tmp_path / "new" / "b.bin")
    assert (tmp_path / "new" / "b.bin").read_bytes() == b"abc"
    device.pull(place, tmp_path)  # onto itself
    assert file.read_bytes() == b"abc"
    with pytest.raises(DeviceError, match="no such file"):
        device.push(tmp_path / "missing")
    with pytest.raises(DeviceError, match="no such file"):
        device.pull(str(tmp_path / "missing"), tmp_path)


def test_nothing_of_a_job_is_left(device, time_job):
    device.run(time_job())
    assert not list((device._workdir / "jobs").iterdir())


@pytest.mark.parametrize("scenario", ["multi-stream", "offline", "server"])
def test_every_scenario_gives_a_trace_with_checked_outputs(device, time_job, scenario):
    job = time_job({"busy_ns": 1_000_000}, scenario=scenario, streams=2, batch=2, rate_per_s=100.0, duration_s=0.2)
    trace = device.run(job)
    assert trace.scenario == scenario
    assert trace.outputs_match is True
    calls = len(trace.latency_ns) * (2 if scenario == "multi-stream" else 1)
    assert trace.samples == 2 * calls
    assert trace.elapsed_ns >= 0.9 * max(trace.latency_ns)


def test_a_cold_load_is_tried_where_it_is_asked_for(device, time_job):
    assert device.run(time_job(cold=True)).cold is hasattr(os, "posix_fadvise")
    assert not device.run(time_job()).cold


def test_the_reference_is_no_part_of_the_models_memory(device, time_job, artifact, tmp_path):
    """A reference of 200 MB beside a model of nothing."""
    large = np.zeros((50_000, 1000), dtype=np.float32)
    large[0, :3] = 2 * np.arange(3)
    save_arrays(tmp_path / "large.npz", {"x_out": large})
    trace = device.run(time_job(reference=str(tmp_path / "large.npz")))
    assert trace.peak_memory_bytes < 150e6
