"""Real SSH over the loopback: host keys, what is sent, and a link that breaks."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeport.devices import connection
from edgeport.devices.inventory import SshAddress
from edgeport.devices.remote import RemoteDevice
from edgeport.devices.ssh import SshTransport
from edgeport.errors import DependencyError, DeviceError, DeviceLost, UsageError

BOARD = SshAddress(host="board")


@pytest.fixture
def board(ssh_board):
    return ssh_board


@pytest.fixture
def reach(tmp_path):
    """Opens the device anew, as another run of the program would."""

    @contextmanager
    def opened():
        with RemoteDevice("board", SshTransport(BOARD), tmp_path / "host") as device:
            yield device

    return opened


def _until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_an_unknown_host_key_ends_it_and_is_shown(board, reach):
    board.known_hosts.write_text("")
    with reach() as device, pytest.raises(DeviceError, match="an unknown host key") as caught:
        device.facts()
    assert board.fingerprint() in caught.value.found
    assert "none is known" in caught.value.found
    assert not board.commands


def test_a_changed_host_key_ends_it_and_both_are_shown(board, reach):
    import asyncssh

    other = asyncssh.generate_private_key("ssh-ed25519")
    board.trust(other)
    with reach() as device, pytest.raises(DeviceError, match="another host key") as caught:
        device.facts()
    assert board.fingerprint() in caught.value.found
    assert other.get_fingerprint() in caught.value.found
    assert f"{board.known_hosts}, line 1" in caught.value.found
    assert not board.commands


def test_a_key_that_is_not_allowed_is_said(board, reach):
    import asyncssh

    asyncssh.generate_private_key("ssh-ed25519").write_private_key(board.folder / "id")
    with reach() as device, pytest.raises(DeviceError, match=r"Permission denied.*ssh-copy-id"):
        device.facts()


def test_a_host_that_is_not_there_is_said(board, tmp_path):
    transport = SshTransport(SshAddress(host="127.0.0.1", port=1))
    with RemoteDevice("gone", transport, tmp_path) as device, pytest.raises(DeviceError, match="refused"):
        device.facts()


def test_without_ssh_its_name_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with RemoteDevice("x", SshTransport(BOARD), tmp_path) as device, pytest.raises(DependencyError, match="OpenSSH"):
        device.facts()


def test_a_device_without_python_says_so(board, reach):
    board.environment["PATH"] = "/nowhere"
    with reach() as device, pytest.raises(DeviceError, match="no python3 there"):
        device.facts()


def test_what_a_login_shell_prints_is_no_answer(board, reach):
    board.greeting = b'Welcome!\n{"value": {}}\nno newline at its end '
    with reach() as device:
        assert device.facts().name == "board"


def test_the_command_line_is_the_same_words_for_everything(board, reach, tmp_path):
    (tmp_path / "$(id)").write_text("x")
    with reach() as device:
        device.push(tmp_path / "$(id)")
        device.facts()
    assert len(board.commands) == 1
    assert str(tmp_path) not in board.commands[0]
    assert "$" not in board.commands[0]


def test_nothing_is_sent_twice(board, reach, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(rng.bytes(300_000))
    with reach() as device:
        first = device.push(tmp_path / "a")
        sent = board.sent_bytes
        assert device.push(tmp_path / "a") == first
        assert board.sent_bytes == sent
    (tmp_path / "c").write_bytes((tmp_path / "a").read_bytes())  # the same bytes under another name
    with reach() as device:
        assert device.push(tmp_path / "a") == first
        device.pull(device.push(tmp_path / "c"), tmp_path / "d")
        assert board.sent_bytes - sent < 20_000
        device.push(tmp_path / "b")
    assert board.sent_bytes - sent > 300_000
    assert (tmp_path / "d").read_bytes() == (tmp_path / "a").read_bytes()


def test_an_upload_that_was_cut_goes_on_where_it_was(board, reach, tmp_path):
    content = np.random.default_rng(0).bytes(24 << 20)
    (tmp_path / "weights").write_bytes(content)
    board.cut_after_bytes = 14 << 20
    with reach() as device, pytest.raises(DeviceLost, match="the link broke"):
        device.push(tmp_path / "weights")
    sent = board.sent_bytes
    with reach() as device:
        place = device.push(tmp_path / "weights")
        device.pull(place, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert board.sent_bytes - sent < 16 << 20
    assert not list(board.home.glob(".cache/edgeport-device/parts/*"))


def test_a_damaged_file_there_is_sent_again(board, reach, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    with reach() as device:
        there = Path(device.push(tmp_path / "a"))
    there.chmod(0o644)
    there.write_bytes(b"y" * 1000)
    with reach() as device:
        assert device.push(tmp_path / "a") == str(there)
    assert there.read_bytes() == b"x" * 1000


def test_a_runtime_that_is_not_there_says_how_to_prepare_the_device(board, reach, job_on):
    with reach() as device, pytest.raises(DependencyError, match=r"m\.txt .* on board") as caught:
        device.run(job_on(device, fail="missing"))
    assert "edgeport devices prepare board" in caught.value.fix


def test_a_link_that_is_cut_in_a_job_is_a_lost_device_and_leaves_no_process(board, reach, job_on):
    with reach() as device:
        job = job_on(device, fail="hang")
        cutting = threading.Thread(
            target=lambda: _until(lambda: any("job.json" in line for line in board.processes())) and board.cut()
        )
        cutting.start()
        with pytest.raises(DeviceLost) as caught:
            device.run(job)
        cutting.join()
        assert "run a job on board" in caught.value.asked
        assert board.left() == []
        assert not list(board.home.glob(".cache/edgeport-device/sessions/*"))
        sent = board.sent_bytes
        trace = device.run(job_on(device, busy_ns=100_000))  # the same device object: the link is made anew
        assert trace.latency_ns
        assert board.sent_bytes - sent < 20_000


def test_a_host_that_is_killed_leaves_no_process(board, reach, job_on):
    with reach() as device:
        job = job_on(device, fail="hang")

        def kill():
            _until(lambda: any("job.json" in line for line in board.processes()))
            device._link._process.kill()

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(DeviceLost):
            device.run(job)
        killing.join()
        assert board.left() == []


def test_a_killed_agent_takes_its_job_with_it(board, reach, job_on):
    with reach() as device:
        job = job_on(device, fail="hang")

        def kill():
            _until(lambda: any("job.json" in line for line in board.processes()))
            os.kill(device._link.hello["pid"], 9)

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(DeviceLost):
            device.run(job)
        killing.join()
        assert board.left() == []


def test_a_device_that_falls_silent_is_lost(board, reach, monkeypatch):
    with reach() as device:
        device.facts()
        monkeypatch.setattr(connection, "SILENCE_S", 0.5)
        os.kill(device._link.hello["pid"], 19)
        try:
            with pytest.raises(DeviceLost, match="no word from the device"):
                device.reserve("x")
        finally:
            for line in board.processes():
                os.kill(int(line.split()[0]), 9)


def test_two_hosts_do_not_measure_at_the_same_time(board, reach, job_on, caplog):
    traces = []

    def measure():
        with reach() as device:
            traces.append(device.run(job_on(device, busy_ns=1_000_000)))

    threads = [threading.Thread(target=measure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = sorted(traces, key=lambda trace: trace.started_at_ns)
    assert second.started_at_ns - first.started_at_ns >= sum(first.latency_ns)
    assert caplog.messages == ["board: waiting for another measurement there to end"]


def test_two_hosts_bring_the_same_file_at_the_same_time(board, reach, tmp_path):
    content = np.random.default_rng(0).bytes(9 << 20)
    (tmp_path / "weights").write_bytes(content)
    placed, start = [], threading.Barrier(3)

    def bring():
        with reach() as device:
            device.facts()
            start.wait()
            placed.append(Path(device.push(tmp_path / "weights")).read_bytes() == content)

    threads = [threading.Thread(target=bring) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert placed == [True] * 3
    assert not list(board.home.glob(".cache/edgeport-device/parts/*"))


def test_clean_removes_everything_but_not_under_another_sessions_feet(board, reach, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 5000)
    with reach() as device, reach() as other:
        device.push(tmp_path / "a")
        other.facts()
        with pytest.raises(DeviceError, match="1 other session of Edgeport"):
            device.clean()
        other.close()
        assert _until(lambda: len(board.processes()) == 1)
        assert device.clean()["freed_bytes"] > 5000
    kept = board.home / ".cache" / "edgeport-device"
    assert board.left() == []
    assert not [path for path in kept.rglob("*") if path.is_file()]


def _wheel(folder, name, version="1.0"):
    """A package of one empty module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_packages_are_names(board, reach):
    with reach() as device:
        for name in ("-r/etc/passwd", "a b", "$(id)", "https://x/y.whl", "", "a==", "a>=1"):
            with pytest.raises(UsageError, match="no name of a package"):
                device.prepare(["numpy", name])
    assert not board.commands


@pytest.mark.slow
def test_a_device_is_prepared_without_a_network(board, reach, tmp_path):
    (tmp_path / "wheels").mkdir()
    _wheel(tmp_path / "wheels", "openvino", "9.9")
    with reach() as device:
        before = device.facts().runtimes
        facts = device.prepare(["openvino==9.9"], tmp_path / "wheels")
        assert facts.runtimes == {"openvino": "9.9"} != before
        assert device.probe().prepared
        with pytest.raises(DeviceError, match="no-such-package"):
            device.prepare(["no-such-package"], tmp_path / "wheels")
    with reach() as device:
        assert device.facts().runtimes == {"openvino": "9.9"}
        device.prepare(["openvino"], tmp_path / "wheels")
        environments = board.home / ".cache" / "edgeport-device" / "environments"
        assert len([path for path in environments.iterdir() if path.is_dir()]) == 1
        device.clean()
    with reach() as device:
        assert device.facts().runtimes == before
