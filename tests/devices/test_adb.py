"""`adb` as it behaves on a bad day; a script plays it."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from edgeport.contracts import Limits, TimeJob
from edgeport.devices import connection
from edgeport.devices.adb import AdbTransport
from edgeport.devices.agent.arrays import save_arrays
from edgeport.devices.inventory import AdbAddress
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import ContractError, DependencyError, DeviceError, DeviceLost


@pytest.fixture
def phone(fake_adb, tmp_path):
    with RemoteDevice("phone", AdbTransport(AdbAddress(serial="phone")), tmp_path / "host") as device:
        yield device


def test_files_and_facts_go_over_adb(phone, fake_adb, tmp_path):
    name = "-$(id) 'x\"\n"
    (tmp_path / name).write_bytes(b"\r\n\0\xff" * 1000)
    place = phone.push(tmp_path / name)
    phone.pull(place, tmp_path / "back")
    assert place.startswith(str(fake_adb.home / "phone" / "edgeport-device"))
    assert (tmp_path / "back").read_bytes() == b"\r\n\0\xff" * 1000
    assert phone.facts().name == "phone"
    assert fake_adb.calls()[0][:4] == ["-s", "phone", "shell", "-T"]


@pytest.mark.parametrize(
    ("state", "says"),
    [("unauthorized", "allow USB debugging"), ("offline", "adb reconnect offline")],
)
def test_a_phone_that_does_not_want_says_what_to_do(phone, fake_adb, state, says):
    fake_adb.play(phone=state)
    with pytest.raises(DeviceError, match=says):
        phone.facts()


def test_of_two_devices_the_named_one_is_asked(phone, fake_adb):
    fake_adb.play(**{"other": "device", "emulator-5554": "offline"})
    with pytest.raises(DeviceError, match=r"no device of that serial, but other \(device\), emulator-5554 \(offline\)"):
        phone.facts()
    fake_adb.play(other="device", phone="device")
    phone.facts()
    assert {tuple(call[:2]) for call in fake_adb.calls() if call != ["devices"]} == {("-s", "phone")}


def test_without_adb_its_name_is_said(phone, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match="platform tools"):
        phone.facts()


def test_endless_output_ends(phone, fake_adb):
    fake_adb.play(phone="endless")
    with pytest.raises(DeviceError, match=r"that adb ended|no answer") as caught:
        phone.facts()
    assert caught.value.details["link"] == "an endless greeting"


def test_answers_that_make_no_sense_are_errors(phone, fake_adb, monkeypatch):
    monkeypatch.setattr(connection, "SILENCE_S", 2.0)
    fake_adb.play(phone="noise")
    with pytest.raises(ContractError):
        phone.facts()
    for _ in range(2):
        with pytest.raises(DeviceLost, match="no JSON"):
            phone.reserve("x")
        with pytest.raises((DeviceLost, ContractError)):
            phone.facts()


def test_a_reboot_in_a_job_is_a_lost_device(phone, fake_adb, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.txt").write_text("a model")
    save_arrays(tmp_path / "feeds.npz", {"x": np.ones((2, 3), np.float32)})
    fake_adb.play(phone="reboot")
    job = TimeJob(
        artifact=phone.push(tmp_path / "model"),
        entry="m.txt",
        session="edgeport.testing.fake_session",
        settings={"fail": "hang"},
        feeds=phone.push(tmp_path / "feeds.npz"),
        limits=Limits(time_s=60),
    )
    with pytest.raises(DeviceLost, match="the link broke"):
        phone.run(job)


def test_a_full_disk_says_so_and_leaves_the_device_usable(phone, fake_adb, tmp_path):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    fake_adb.play(phone="full")
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    (tmp_path / "small").write_bytes(bytes(1000))
    with pytest.raises(DeviceError, match=r"no space left there; .*edgeport devices clean phone") as caught:
        phone.push(tmp_path / "large")
    assert caught.value.asked == "keep a file on phone"
    phone.pull(phone.push(tmp_path / "small"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(1000)
