"""What is this machine's alone; the contract of all devices is `edgeport.testing.DeviceSuite`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeport.contracts import EvaluateJob
from edgeport.devices.agent.machine_lock import FILE, FOLDER, pause, take_turn
from edgeport.devices.agent.memory import peak_memory_bytes
from edgeport.devices.latency.telemetry import timed_samples


def test_a_file_is_used_where_it_lies(device, tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc")
    assert device.push(file) == str(file)
    device.pull(str(file), tmp_path)  # onto itself
    assert file.read_bytes() == b"abc"


@pytest.fixture
def somebody_measures(tmp_path, monkeypatch):
    """Until what it gives is closed, another process's measurement is at work on this machine."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    turn = take_turn(tmp_path, pause)
    assert turn is not None
    with os.fdopen(turn) as file:
        yield file


def test_a_second_measurement_waits_and_says_so(device, time_job, somebody_measures, caplog):
    ended_at = []

    def end():
        while not caplog.messages:
            time.sleep(0.01)
        ended_at.append(time.monotonic_ns())
        somebody_measures.close()

    ending = threading.Thread(target=end)
    ending.start()
    trace = device.run(time_job())
    ending.join()
    assert trace.started_at_ns > ended_at[0]
    assert caplog.messages == ["local: waiting for another measurement on this machine to end"]


def test_what_is_not_timed_does_not_wait(device, time_job, somebody_measures, caplog):
    job = time_job()
    shared = {name: getattr(job, name) for name in ("artifact", "entry", "session", "settings", "feeds", "limits")}
    assert device.run(EvaluateJob(**shared, outputs=device.reserve("outputs.npz"))).latency_ns
    assert not caplog.messages


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_a_sessions_other_processes_take_is_its_own(device, time_job):
    """Here that of this very process, which has taken more than the job ever does."""
    memory, cpu_us = peak_memory_bytes(), 1e6 * time.process_time()
    job = time_job({"processes": [os.getpid()]})
    shared = {name: getattr(job, name) for name in ("artifact", "entry", "session", "settings", "feeds", "limits")}
    timed = device.run(job)
    evaluated = device.run(EvaluateJob(**shared, outputs=device.reserve("outputs.npz")))
    assert min(timed.peak_memory_bytes, evaluated.peak_memory_bytes) > memory + (10 << 20)
    own = [sample.values["own_cpu_us"] for sample in timed_samples(timed)]
    assert own
    assert min(own) > cpu_us


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_a_process_that_ended_took_is_not_known(device, time_job):
    ended = subprocess.Popen(["true"])
    ended.wait()
    trace = device.run(time_job({"processes": [ended.pid]}))
    assert trace.peak_memory_bytes == 0
    assert not any("own_cpu_us" in sample.values for sample in timed_samples(trace))


def test_processes_that_measure_each_other_share_a_turn(device, time_job):
    places = tuple(device.reserve("meeting") for _ in range(2))
    with ThreadPoolExecutor() as pool:
        jobs = [time_job(meet=places, meet_index=index) for index in range(2)]
        first, second = pool.map(device.run, jobs)
    assert first.started_at_ns < second.started_at_ns + sum(second.latency_ns)
    assert second.started_at_ns < first.started_at_ns + sum(first.latency_ns)


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_lock_that_can_not_be_had_is_taken_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "somewhere").write_text("")
    (tmp_path / "all" / FILE).symlink_to("somewhere")  # somebody's trick in everybody's folder
    monkeypatch.setenv(FOLDER, str(tmp_path / "all"))
    warned = []
    turn = take_turn(tmp_path, pause, warned.append)
    assert (tmp_path / FILE).exists()
    assert warned == [str(tmp_path / "all")]
    os.close(turn)


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_where_there_is_no_folder_for_all_a_users_runs_share_one(device, time_job, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(FOLDER, str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    device.run(time_job())
    assert (tmp_path / "cache" / "edgeport" / FILE).exists()
    named = f"{tmp_path / 'nowhere'} (EDGEPORT_LOCK_DIR)"
    assert caplog.messages == [f"local: no lock can be had in {named}, so who measures by it is not waited for"]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_the_lock_is_everybodys_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    before = os.umask(0o077)
    try:
        turn = take_turn(tmp_path / "own", pause)
    finally:
        os.umask(before)
    os.close(turn)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644
