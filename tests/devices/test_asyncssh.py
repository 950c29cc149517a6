"""asyncssh in place of the system's client: the same refusals, and a link that breaks; ../contract has the contract."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from edgeport import api
from edgeport.devices.asyncssh_client import AsyncSshTransport
from edgeport.devices.inventory import SshAddress
from edgeport.devices.opening import open_device
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import DependencyError, DeviceError, DeviceLost

BOARD = SshAddress(host="board", client="asyncssh")


@pytest.fixture
def board(ssh_board):
    return ssh_board


@pytest.fixture
def reach(board, tmp_path):
    """Opens a host of the board's configuration, and of lines before it."""

    def opened(name="board", *lines):
        config = tmp_path / "config"
        config.write_text("\n".join((*lines, (board.folder / "config").read_text())))
        transport = AsyncSshTransport(SshAddress(host=name, client="asyncssh"), [config])
        return RemoteDevice(name, transport, tmp_path / "host")

    return opened


def test_an_unknown_host_key_ends_it_and_is_shown(board, reach):
    board.known_hosts.write_text("# nobody\nthis is no key\n")
    with reach() as device, pytest.raises(DeviceError, match="an unknown host key") as caught:
        device.facts()
    assert f"it shows ssh-ed25519 {board.fingerprint()}, and none is known" in caught.value.found
    assert caught.value.fix.endswith("connect once by hand: ssh board")
    assert not board.commands


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_a_changed_host_key_ends_it_and_both_are_shown(board, reach, kind):
    import asyncssh

    other = asyncssh.generate_private_key(kind)
    board.trust(other)
    board.known_hosts.write_text("# a line before\n" + board.known_hosts.read_text())
    with reach() as device, pytest.raises(DeviceError, match="another host key") as caught:
        device.facts()
    assert f"it shows ssh-ed25519 {board.fingerprint()}" in caught.value.found
    assert f"{kind} {other.get_fingerprint()} is known ({board.known_hosts}, line 2)" in caught.value.found
    assert "ssh-keygen -R" in caught.value.fix
    assert not board.commands


@pytest.mark.parametrize("line", ["UserKnownHostsFile none", "UserKnownHostsFile /nowhere", "StrictHostKeyChecking no"])
def test_no_configuration_turns_the_check_off(board, reach, line):
    board.known_hosts.write_text("")
    with reach("board", "Host *", f"  {line}") as device, pytest.raises(DeviceError, match="an unknown host key"):
        device.facts()
    assert not board.commands


def test_jump_hosts_are_followed_and_their_keys_checked(board, reach):
    """`far` through `board`, both the same server; asyncssh alone would take any key of `board` here."""
    address = f"  HostName 127.0.0.1\n  Port {board.port}\n  User tester\n  IdentityFile {board.folder / 'id'}"
    far = ("Host far", "  HostKeyAlias board", address, "  ProxyJump board")
    board.jumps = True
    with reach("far", *far, f"  UserKnownHostsFile {board.known_hosts}") as device:
        assert device.facts().name == "far"
    unchecked = ("Host board", "  UserKnownHostsFile none")
    with (
        reach("far", *far, f"  UserKnownHostsFile {board.known_hosts}", *unchecked) as device,
        pytest.raises(DeviceError, match="an unknown host key") as caught,
    ):
        device.facts()
    assert caught.value.asked == "connect to asyncssh://board"


def test_a_changed_key_behind_a_jump_host_is_asked_for_through_it(board, reach, monkeypatch):
    """`far` has no key of the known kind, so it hangs up before it shows one, and is asked once more."""
    import asyncssh

    asked, ask = [], asyncssh.get_server_host_key

    async def through(host, *arguments, tunnel, **options):
        asked.append(tunnel)
        return await ask(host, *arguments, tunnel=tunnel, **options)

    monkeypatch.setattr(asyncssh, "get_server_host_key", through)
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    with board.known_hosts.open("a") as known:
        known.write(f"far {other.export_public_key().decode()}\n")
    address = f"  HostName 127.0.0.1\n  Port {board.port}\n  User tester\n  IdentityFile {board.folder / 'id'}"
    board.jumps = True
    far = ("Host far", "  HostKeyAlias far", address, "  ProxyJump board", f"  UserKnownHostsFile {board.known_hosts}")
    with reach("far", *far) as device, pytest.raises(DeviceError, match="another host key") as caught:
        device.facts()
    assert f"it shows ssh-ed25519 {board.fingerprint()}" in caught.value.found
    assert other.get_fingerprint() in caught.value.found
    assert len(asked) == 1
    assert asked[0] is not None
    assert not board.commands


def test_without_a_home_it_has_no_configuration(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user whom nobody knows
    assert "~" not in "".join(AsyncSshTransport(BOARD)._config)


def test_what_else_keeps_it_out_is_said(board, reach, tmp_path):
    import asyncssh

    gone = AsyncSshTransport(SshAddress(host="127.0.0.1", port=1, client="asyncssh"), [])
    with RemoteDevice("gone", gone, tmp_path) as device, pytest.raises(DeviceError, match="Connection refused"):
        device.facts()
    with reach("board", "Host *", "  Port twenty") as device, pytest.raises(DeviceError, match="Port"):
        device.facts()
    board.environment["PATH"] = "/nowhere"
    with reach() as device, pytest.raises(DeviceError, match="no python3 there"):
        device.facts()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(board.folder / "other")
    config = board.folder / "config"
    config.write_text(config.read_text().replace(str(board.folder / "id"), str(board.folder / "other")))
    with reach() as device, pytest.raises(DeviceError, match=r"Permission denied.*ssh-copy-id"):
        device.facts()


def test_without_asyncssh_its_extra_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "asyncssh", None)
    with (
        RemoteDevice("x", AsyncSshTransport(BOARD), tmp_path) as device,
        pytest.raises(DependencyError, match=r"edgeport\[ssh\]"),
    ):
        device.facts()


@pytest.mark.parametrize("whose", ["the host's", "the device's"])
def test_a_link_that_is_cut_in_a_job_is_a_lost_device_and_leaves_no_process(board, reach, job_on, whose):
    with reach() as device:
        job = job_on(device, fail="hang")

        def cut():
            while not any("job.json" in line for line in board.processes()):
                time.sleep(0.02)
            device._link._process.kill() if whose == "the host's" else board.cut()

        cutting = threading.Thread(target=cut)
        cutting.start()
        with pytest.raises(DeviceLost, match="the link broke"):
            device.run(job)
        cutting.join()
        assert board.left() == []
        sent = board.sent_bytes
        assert device.run(job_on(device, busy_ns=100_000)).latency_ns
        assert board.sent_bytes - sent < 20_000
    assert board.left() == []


def test_the_inventory_chooses_and_many_share_a_thread(board, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text((board.folder / "config").read_text())
    names = [f"board{index}" for index in range(4)]
    for name in names:
        api.add_device(name, "asyncssh://board")
    assert api.list_devices()["board0"] == "asyncssh://board"
    (tmp_path / "weights").write_bytes(bytes(9 << 20))
    with ExitStack() as stack:
        devices = [stack.enter_context(open_device(name, tmp_path / name)) for name in names]
        assert [device.facts().name for device in devices] == names
        assert len({device.push(tmp_path / "weights") for device in devices}) == 1
        assert [thread.name for thread in threading.enumerate()].count("edgeport-asyncssh") == 1
        assert all(device._link._process.poll() is None for device in devices)
    assert board.left() == []
