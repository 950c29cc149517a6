"""What every device must do. Subclass `DeviceSuite` in a test module, make the device, and pytest runs it.

::

    from edgeport.testing import DeviceSuite

    class TestMine(DeviceSuite):
        @pytest.fixture(scope="class")
        @classmethod
        def device(cls, tmp_path_factory):
            with MyDevice(tmp_path_factory.mktemp("device")) as device:
                yield device

        def jobs_left(self, device):
            return list(...)

Jobs are of a session without a runtime (`fake_session`), whose settings say how it behaves; it needs numpy there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.backends.artifacts import artifact_digest
from edgeport.contracts import EvaluateJob, Limits, TimeJob
from edgeport.devices.agent.arrays import load_arrays, save_arrays
from edgeport.errors import (
    BackendCrash,
    BackendError,
    ChildTimeout,
    DependencyError,
    DeviceError,
    ResourceLimit,
    SamplesError,
)


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


NAMES = (
    "plain",
    "-rf",
    "--",
    "$(touch executed)",
    "`touch executed`",
    "a'b\"c",
    "a\nb",
    " a ",
    "a;b|c&d",
    "\u00e9\u4e2d",
    "~",
    "*",
)


class DeviceSuite:
    """The contract."""

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, tmp_path_factory):
        """The device; subclasses make it."""
        raise NotImplementedError

    def jobs_left(self, device) -> list[Path]:
        """Files of jobs that are over, where the device keeps them."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, tmp_path_factory):
        """On this machine: an artifact's folder, feeds of 10 samples, and what the fake session gives for them."""
        root = tmp_path_factory.mktemp("artifact")
        (root / "model").mkdir()
        (root / "model" / "m.txt").write_text("a model")
        samples = np.arange(30, dtype=np.float32).reshape(10, 3)
        save_arrays(root / "feeds.npz", {"x": samples})
        save_arrays(root / "reference.npz", {"x_out": 2 * samples})
        return root

    @pytest.fixture
    def time_job(self, device, artifact):
        def make(settings=None, **changes):
            values = {
                "artifact": device.push(artifact / "model"),
                "entry": "m.txt",
                "session": "edgeport.testing.fake_session",
                "settings": {"busy_ns": 100_000} if settings is None else settings,
                "feeds": device.push(artifact / "feeds.npz"),
                "reference": device.push(artifact / "reference.npz"),
                "warmup_s": 0.01,
                "duration_s": 0.05,
                "limits": Limits(time_s=30),
            }
            return TimeJob(**(values | changes))

        return make

    def test_a_trace_keeps_every_time_apart(self, device, time_job, artifact):
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

    def test_the_bounds_on_readings_hold(self, device, time_job):
        short = device.run(time_job({"busy_ns": 3_000_000}, duration_s=0.01, minimum_calls=30))
        assert len(short.latency_ns) == 30
        capped = device.run(time_job({"busy_ns": 50_000}, duration_s=5.0, maximum_calls=40))
        assert len(capped.latency_ns) == 40

    def test_the_import_of_a_runtime_is_not_part_of_the_load(self, device, time_job):
        trace = device.run(time_job({"import": "slow_runtime"}, session="edgeport.testing.slow_import_session"))
        assert trace.import_ns > 200e6
        assert trace.load_ns < 100e6

    def test_telemetry_is_read_between_blocks(self, device, time_job):
        trace = device.run(time_job(duration_s=0.7))
        canaries = [sample for sample in trace.telemetry if "canary_ns" in sample.values]
        assert len(canaries) == 2
        if device.facts().cores > 1 and hasattr(os, "sched_setaffinity"):
            assert [sample.values["exchange_ns"] > 0 for sample in canaries] == [True, True]
        assert len(trace.telemetry) >= 2 + 1 + 2
        assert sorted(sample.at_ns for sample in trace.telemetry) == [sample.at_ns for sample in trace.telemetry]

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
    def test_a_failure_becomes_its_error(self, device, time_job, failure):
        limits = Limits(time_s=2 if failure.name == "hang" else 30, memory_bytes=300 << 20)
        with pytest.raises(failure.error, match=failure.says) as caught:
            device.run(time_job({"fail": failure.name}, limits=limits))
        assert type(caught.value) is failure.error
        assert "m.txt" in caught.value.asked

    @pytest.mark.parametrize("name", ["crash", "hang"])
    def test_the_stack_of_a_dead_runtime_is_kept(self, device, time_job, name):
        with pytest.raises((BackendCrash, ChildTimeout)) as caught:
            device.run(time_job({"fail": name}, limits=Limits(time_s=3)))
        assert "in _crash" in caught.value.found or "in _hang" in caught.value.found
        stack = caught.value.details["stack"]
        assert "noise of a runtime" not in stack
        assert "fake_session" in stack

    def test_a_missing_runtime_is_a_dependency_error(self, device, time_job):
        with pytest.raises(DependencyError, match="a_runtime_that_is_not_there"):
            device.run(time_job({"import": "a_runtime_that_is_not_there"}))

    def test_an_unpacked_session_is_named(self, device, time_job):
        with pytest.raises(DeviceError, match="no_such_package"):
            device.run(time_job(session="no_such_package.session"))

    def test_a_missing_entry_is_a_device_error(self, device, time_job):
        with pytest.raises(DeviceError, match="no such file in the artifact"):
            device.run(time_job(entry="other.txt"))

    def test_feeds_that_do_not_fit_are_a_samples_error(self, device, time_job, tmp_path):
        save_arrays(tmp_path / "feeds.npz", {"x": np.zeros((4, 3))})
        with pytest.raises(SamplesError, match="takes float32"):
            device.run(time_job(feeds=device.push(tmp_path / "feeds.npz")))

    def test_damaged_feeds_are_a_device_error(self, device, time_job, tmp_path):
        (tmp_path / "feeds.npz").write_bytes(b"PK\x03\x04 no zip")
        with pytest.raises(DeviceError, match=r"feeds\.npz"):
            device.run(time_job(feeds=device.push(tmp_path / "feeds.npz")))

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
    def test_outputs_of_timed_calls_are_checked(self, device, time_job, settings, flags, match):
        trace = device.run(time_job({"busy_ns": 50_000} | settings))
        assert set(trace.flags) == flags
        assert trace.outputs_match is match

    def test_without_a_reference_nothing_is_said_of_outputs(self, device, time_job):
        trace = device.run(time_job(reference=None))
        assert trace.outputs_match is None
        assert trace.output_difference is None

    @pytest.mark.parametrize("batch", [1, 4, 10])
    def test_evaluate_runs_every_sample(self, device, time_job, artifact, tmp_path, batch):
        job = time_job()
        shared = {name: getattr(job, name) for name in ("artifact", "entry", "session", "settings", "feeds", "limits")}
        evaluate = EvaluateJob(**shared, outputs=device.reserve("outputs.npz"), batch=batch)
        trace = device.run(evaluate)
        device.pull(evaluate.outputs, tmp_path)
        assert len(trace.latency_ns) == -(-10 // batch)
        outputs = load_arrays(str(tmp_path / "outputs.npz"))
        np.testing.assert_array_equal(outputs["x_out"], load_arrays(str(artifact / "reference.npz"))["x_out"])

    def test_evaluate_refuses_outputs_without_a_batch_axis(self, device, time_job, tmp_path):
        job = time_job({"flatten": True})
        shared = {name: getattr(job, name) for name in ("artifact", "entry", "session", "settings", "feeds", "limits")}
        evaluate = EvaluateJob(**shared, outputs=device.reserve("outputs.npz"), batch=4)
        with pytest.raises(BackendError, match=r"output x_out of shape \(12,\)"):
            device.run(evaluate)
        with pytest.raises(DeviceError, match="no such file"):
            device.pull(evaluate.outputs, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_facts_are_the_same_when_asked_again(self, device):
        facts = device.facts()
        assert facts.digest == replace(device.facts()).digest
        assert facts.cores >= 1
        assert facts.memory_bytes > 1 << 28
        assert "numpy" in facts.runtimes
        assert facts.cpu
        assert facts.system

    @pytest.mark.parametrize("scenario", ["multi-stream", "offline", "server"])
    def test_every_scenario_gives_a_trace_with_checked_outputs(self, device, time_job, scenario):
        job = time_job({"busy_ns": 1_000_000}, scenario=scenario, streams=2, batch=2, rate_per_s=100.0, duration_s=0.2)
        trace = device.run(job)
        assert trace.scenario == scenario
        assert trace.outputs_match is True
        calls = len(trace.latency_ns) * (2 if scenario == "multi-stream" else 1)
        assert trace.samples == 2 * calls
        assert trace.elapsed_ns >= 0.9 * max(trace.latency_ns)

    def test_a_cold_load_is_tried_where_it_is_asked_for(self, device, time_job):
        assert device.run(time_job(cold=True)).cold is hasattr(os, "posix_fadvise")
        assert not device.run(time_job()).cold

    def test_the_reference_is_no_part_of_the_models_memory(self, device, time_job, artifact, tmp_path):
        """A reference of 200 MB beside a model of nothing."""
        large = np.zeros((50_000, 1000), dtype=np.float32)
        large[0, :3] = 2 * np.arange(3)
        save_arrays(tmp_path / "large.npz", {"x_out": large})
        trace = device.run(time_job(reference=device.push(tmp_path / "large.npz")))
        assert trace.peak_memory_bytes < 150e6

    def test_files_come_back_as_they_went(self, device, tmp_path):
        (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 5000)
        place = device.push(tmp_path / "a.bin")
        device.pull(place, tmp_path / "new" / "b.bin")
        (tmp_path / "into").mkdir()
        device.pull(place, tmp_path / "into")
        assert (tmp_path / "new" / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
        assert (tmp_path / "into" / "a.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
        assert {path.name for path in tmp_path.rglob("*")} == {"a.bin", "new", "b.bin", "into"}

    def test_what_is_not_there_is_an_error(self, device, tmp_path):
        with pytest.raises(DeviceError, match="no such file"):
            device.push(tmp_path / "missing")
        with pytest.raises(DeviceError, match="no such file"):
            device.pull(device.reserve("missing"), tmp_path)
        for name in ("", "..", "a/b"):
            with pytest.raises(DeviceError, match="no name"):
                device.reserve(name)

    def test_a_changed_file_is_another_one(self, device, tmp_path):
        for text in ("one", "two", "one"):
            (tmp_path / "a").write_text(text)
            device.pull(device.push(tmp_path / "a"), tmp_path / "b")
            assert (tmp_path / "b").read_text() == text

    def test_names_of_any_bytes_make_the_round_trip(self, device, tmp_path):
        folder = tmp_path / "$(touch executed) -'\"\n"
        (folder / "sub").mkdir(parents=True)
        for index, name in enumerate(NAMES):
            (folder / "sub" / name).write_bytes(bytes([index]))
        (folder / os.fsdecode(b"\xff\xfe")).write_bytes(b"no UTF-8")
        place = device.push(folder)
        assert place.endswith(folder.name)
        (tmp_path / "back").mkdir()
        for index, name in enumerate(NAMES):
            device.pull(f"{place}/sub/{name}", tmp_path / "back")
            assert (tmp_path / "back" / name).read_bytes() == bytes([index])
        device.pull(f"{place}/{os.fsdecode(bytes([255, 254]))}", tmp_path / "back")
        assert (tmp_path / "back" / os.fsdecode(b"\xff\xfe")).read_bytes() == b"no UTF-8"
        assert not list(tmp_path.rglob("executed"))

    def test_a_model_of_any_name_runs(self, device, time_job, tmp_path):
        model = tmp_path / "-$(id) '\"\n"
        model.mkdir()
        (model / "--`id`;\n.txt").write_text("a model")
        trace = device.run(time_job(artifact=device.push(model), entry="--`id`;\n.txt"))
        assert trace.artifact_digest == artifact_digest(model, {"busy_ns": 100_000})

    def test_nothing_of_a_job_is_left(self, device, time_job):
        device.run(time_job())
        assert not self.jobs_left(device)
