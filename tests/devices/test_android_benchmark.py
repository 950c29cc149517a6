"""Android without a Python: the runtimes' own benchmark programs, found and called; one of them is played."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from edgeport import api
from edgeport.cli.app import run
from edgeport.contracts import Limits, Outcome, TimeJob
from edgeport.devices import android
from edgeport.devices.agent.arrays import save_arrays
from edgeport.devices.android_benchmark import FLAG, NativeDevice
from edgeport.devices.benchmark_programs import PROGRAMS
from edgeport.devices.opening import open_device
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import BackendCrash, BackendError, ChildTimeout, DeviceError, DeviceLost, UsageError
from edgeport.pipeline.benchmarking.bench import Asked, BenchSettings, bench_artifact
from edgeport.pipeline.engine.context import reach

PERF_TEST = Path(__file__).parent.parent / "loopback" / "fake_perf_test.py"
SESSION = "edgeport.backends.onnxruntime.session"


@pytest.fixture
def phone(fake_adb, monkeypatch, tmp_path):
    """A phone with `onnxruntime_perf_test` and no Python."""
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path / "config"))
    api.add_device("phone", "adb://phone")
    program = fake_adb.native / "onnxruntime_perf_test"
    program.write_text(f"#!{sys.executable}\n{PERF_TEST.read_text()}")
    program.chmod(0o755)
    (fake_adb.native / "how").unlink(missing_ok=True)
    fake_adb.play(phone="native")
    return fake_adb


@pytest.fixture
def device(phone, tmp_path):
    with open_device("phone", tmp_path / "host") as opened:
        yield opened


@pytest.fixture
def job_on(small_onnx, tmp_path):
    def job(device, name="m.onnx", **changes):
        folder = tmp_path / "artifact"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / name).write_bytes(small_onnx.SerializeToString())
        save_arrays(tmp_path / "feeds.npz", {"x": np.ones((5, 3), np.float32)})
        values = {
            "artifact": device.push(folder),
            "entry": name,
            "session": SESSION,
            "settings": {
                "optimization": "all",
                "skip": ["MatMulAddFusion", "GemmSumFusion"],
                "threads": 1,
                "spinning": False,
                "priority": 5,
            },
            "feeds": device.push(tmp_path / "feeds.npz"),
            "batch": 2,
            "warmup_s": 0.001,
            "limits": Limits(time_s=30),
        }
        return TimeJob(**(values | changes))

    return job


def test_whichever_is_found_is_taken_and_said(phone, device, monkeypatch, tmp_path, capsys):
    assert isinstance(device, NativeDevice)
    program = str(phone.native / "onnxruntime_perf_test")
    assert device.facts().runtimes == {"onnxruntime_perf_test": program}
    assert (device.facts().cores, device.facts().machine) == (len(os.sched_getaffinity(0)), os.uname().machine)
    assert run(["devices", "probe", "phone"]) == 0
    assert f"runs with     {program} (no Python there: it times, and judges no outputs)" in capsys.readouterr().out

    phone.play(phone="device")
    with open_device("phone", tmp_path / "host") as opened:
        assert isinstance(opened, RemoteDevice)
        assert opened.probe().runs_with == sys.executable

    phone.play(phone="native")
    (phone.native / "onnxruntime_perf_test").unlink()
    with open_device("phone", tmp_path / "host") as opened, pytest.raises(DeviceError, match="onnxruntime_perf_test"):
        opened.facts()


def test_a_trace_keeps_every_call(phone, device, job_on):
    name = "-$(touch executed) 'x\"\n.onnx"
    job = job_on(device, name, round=3, position=1)
    trace = device.run(job)
    assert len(trace.latency_ns) > 20
    assert trace.load_ns > 0
    assert sum(trace.warmup_ns) >= 1e6
    assert trace.peak_memory_bytes == 50 << 20
    assert (trace.round, trace.position, trace.outputs_match, trace.flags) == (3, 1, None, (FLAG,))
    assert not list(phone.home.rglob("executed"))
    assert not list(phone.home.glob("phone/edgeport-native/jobs/*"))
    pushed = [call for call in phone.calls() if call[2] == "push"]
    device.run(job)
    assert [call for call in phone.calls() if call[2] == "push"] == pushed
    assert device.clean()["freed_bytes"] > 0
    assert not (phone.home / "phone" / "edgeport-native").exists()


def test_bench_passes_no_verdict_and_says_why(phone, small_onnx, save_onnx):
    settings = BenchSettings(rounds=3, duration_s=0.1, device="phone", threads=1, limits=Limits(time_s=60))
    found = bench_artifact(save_onnx(small_onnx), settings, Asked())
    assert found.summary.processes == 3
    assert found.outcome is Outcome.INCONCLUSIVE
    assert FLAG in found.summary.flags
    assert "phone has no Python: onnxruntime_perf_test of its own times artifacts there" in found.notes[0]


def test_nothing_is_judged_there(phone, tmp_path):
    with ExitStack() as stack, pytest.raises(UsageError, match=r"judge candidates on phone.*has no Python"):
        reach(stack, "phone", tmp_path)


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("crash", BackendCrash, "died by signal 6"),
        ("hang", ChildTimeout, "still at work"),
        ("silent", DeviceError, "no times in what it says: nothing"),
        ("nonsense", DeviceError, "no times in what it says"),
    ],
)
def test_a_program_that_fails_becomes_its_error(phone, device, job_on, how, error, says):
    (phone.native / "how").write_text(how)
    with pytest.raises(error, match=says):
        device.run(job_on(device, limits=Limits(time_s=1)))
    assert not list(phone.home.glob("phone/edgeport-native/jobs/*"))


def test_what_the_runtime_says_is_kept(device, job_on):
    job = job_on(device)
    (device._pushed[job.artifact] / "m.onnx").write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"[Pp]rotobuf"):
        device.run(job)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"scenario": "offline"}, UsageError, "the scenario offline"),
        ({"session": "edgeport.backends.openvino.session"}, DeviceError, "put benchmark_app into"),
        ({"settings": {"streams": 2}}, DeviceError, "the settings streams"),
        ({"settings": {"huge_pages": True}}, DeviceError, "the settings huge_pages"),
        ({"settings": {"config": {"a": "$(id)"}}}, DeviceError, r"the name '\$\(id\)'"),
    ],
    ids=["scenario", "runtime", "setting", "huge pages", "hostile"],
)
def test_what_it_has_no_word_for_is_refused(device, job_on, changes, error, says):
    with pytest.raises(error, match=says):
        device.run(job_on(device, **changes))


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ("native-full", DeviceError, "no space left there"),
        ("native-reboot", DeviceLost, "the link broke"),
        ("offline", DeviceLost, "offline"),
    ],
)
def test_a_phone_that_goes_away_or_is_full_says_so(phone, device, job_on, state, error, says):
    job = job_on(device) if state == "native-reboot" else None
    device.facts()
    phone.play(phone=state)
    with pytest.raises(error, match=says):
        device.run(job) if job is not None else job_on(device)


def test_a_link_that_is_cut_ends_the_program(phone, device, job_on):
    (phone.native / "how").write_text("hang")
    job = job_on(device)
    phone.play(phone="native-cut")
    with pytest.raises(DeviceLost, match="the link broke"):
        device.run(job)
    until = time.monotonic() + 20  # of 30 s that it may take, and of 60 s that it would
    while (left := _left(phone)) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def _left(phone):
    """Command lines of benchmark programs that run there, and folders of jobs."""
    place, found = str(phone.native / "onnxruntime_perf_test").encode(), []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and place in (line := (entry / "cmdline").read_bytes()):
                found.append(line)
    return found + list(phone.home.glob("phone/edgeport-native/jobs/*"))


def test_a_status_of_the_programs_own_is_not_taken_for_a_turn(phone, device, job_on):
    (phone.native / "how").write_text("status 98")
    with pytest.raises(BackendError, match="status 98"):
        device.run(job_on(device))


def test_output_without_end_is_ended(phone, device, job_on, monkeypatch):
    monkeypatch.setattr(android, "_LARGEST_BYTES", 1 << 16)
    phone.play(phone="endless")
    with pytest.raises(DeviceError, match="output without end"):
        device.facts()


def test_what_is_no_answer_of_a_shell_is_said(phone, device):
    phone.play(phone="noise")
    with pytest.raises(DeviceError, match="no answer of its shell"):
        device.facts()


def test_two_measurements_wait_for_each_other(phone, device, job_on, caplog):
    import fcntl
    import threading

    job = job_on(device)
    with (phone.home / "phone" / "edgeport-native" / "measuring.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ending = threading.Timer(1.0, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        ending.start()
        assert device.run(job).latency_ns
        ending.join()
    assert caplog.messages == ["phone: waiting for another measurement there to end"]


SAID = """[Step 10/11] Measuring performance
[ INFO ] First inference took 4.89 ms
[ INFO ] Compile model took 36.21 ms
[ INFO ] Read model took 3.79 ms
[ INFO ] Count:            1200 iterations
[ INFO ] Latency:
[ INFO ]    Median:        1.90 ms
[ INFO ]    Average:       2.00 ms
"""


def test_benchmark_app_gives_a_mean_of_many_calls():
    timed = next(one for one in PROGRAMS if one.name == "benchmark_app").read(SAID, "")
    assert (timed.latency_ns, timed.calls_per_reading) == ((2_000_000,), 1200)
    assert (timed.load_ns, timed.first_ns) == (40_000_000, 4_890_000)
    quick = next(one for one in PROGRAMS if one.name == "benchmark_app").read(SAID.replace("2.00 ms", "47.07 us"), "")
    assert quick.latency_ns == (47_070,)


@pytest.mark.slow
def test_the_real_benchmark_app_takes_what_it_is_told(phone, small_onnx, save_onnx):
    """The one of OpenVINO's Python package, which has the same options and says the same."""
    pytest.importorskip("openvino.tools.benchmark.main", reason="OpenVINO's benchmark_app is not installed")
    program = phone.native / "benchmark_app"
    program.write_text(f"#!{sys.executable}\nfrom openvino.tools.benchmark.main import main\n\nmain()\n")
    program.chmod(0o755)
    settings = BenchSettings(rounds=2, duration_s=0.1, device="phone", backend="openvino", limits=Limits(time_s=60))
    found = bench_artifact(save_onnx(small_onnx), settings, Asked())
    assert found.summary.processes == 2
    assert all(trace.calls_per_reading > 100 for trace in found.measurement.traces)
    program.unlink()
