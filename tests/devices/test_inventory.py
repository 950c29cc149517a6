"""Devices by name: what is kept, and what is refused before any shell or option parser could see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeport import api
from edgeport.cli.app import run
from edgeport.devices.inventory import (
    AdbAddress,
    Inventory,
    LocalAddress,
    SshAddress,
    inventory_path,
    load_inventory,
    parse_address,
)
from edgeport.errors import DeviceError, UsageError

ADDRESSES = {
    "local": LocalAddress(),
    "ssh://pi5": SshAddress(host="pi5"),
    "ssh://pi@raspberrypi.local": SshAddress(host="raspberrypi.local", user="pi"),
    "ssh://u-1.x@10.0.0.7:2222": SshAddress(host="10.0.0.7", user="u-1.x", port=2222),
    "ssh://[::1]:2222": SshAddress(host="::1", port=2222),
    "ssh://pi@[fe80::1%eth0]": SshAddress(host="fe80::1%eth0", user="pi"),
    "asyncssh://pi@host:2222": SshAddress(host="host", user="pi", port=2222, client="asyncssh"),
    "adb://emulator-5554": AdbAddress(serial="emulator-5554"),
    "adb://192.168.1.20:5555": AdbAddress(serial="192.168.1.20:5555"),
    "adb://adb-1A-b._adb-tls-connect._tcp": AdbAddress(serial="adb-1A-b._adb-tls-connect._tcp"),
}
HOSTILE = (
    "-oProxyCommand=sh",
    "$(id)",
    "`id`",
    "a'b",
    'a"b',
    "a\nb",
    "a b",
    "a;b",
    "a|b",
    "a\\b",
    "a\0b",
    "",
    "\u202ea",
)


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_read_and_said_again(text):
    assert parse_address(text) == ADDRESSES[text]
    assert str(ADDRESSES[text]) == text


@pytest.mark.parametrize("part", HOSTILE, ids=repr)
@pytest.mark.parametrize(
    "form", ["{}", "ssh://{}", "ssh://{}@host", "ssh://user@{}", "ssh://host:{}", "asyncssh://{}", "adb://{}"]
)
def test_a_part_that_could_mean_more_is_refused(form, part):
    with pytest.raises(UsageError, match="no address of a device"):
        parse_address(form.format(part))


NO_ADDRESSES = (
    *("ssh://host:0", "ssh://host:65536", "ssh://host:22:22", "ssh://a@b@c", "ssh://[::1", "http://host", "ssh:host"),
    *("ssh://host/path", "ssh://host?", "ssh://user:password@host", "LOCAL", "ssh://ho\u0455t", "ssh://h:\u0661"),
)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize("name", [*HOSTILE, ".", "-", "_", "a/b", "x" * 65, "\u0661"], ids=repr)
def test_what_is_no_name_is_refused_wherever_it_comes_from(name, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path / "config"))
    with pytest.raises(UsageError):
        api.add_device(name, "local")
    with pytest.raises(UsageError):
        load_inventory(tmp_path / "none.toml").address(name)
    assert not inventory_path().exists()


def test_devices_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path / "config"))
    assert api.list_devices() == {"local": "local"}
    api.add_device("pi.5", "ssh://pi@raspberrypi.local")
    api.add_device("pi.5", "ssh://pi@raspberrypi.local")
    api.add_device("phone", "adb://0123")
    with pytest.raises(UsageError, match=r"remove it first: edgeport devices remove pi\.5"):
        api.add_device("pi.5", "ssh://other")
    assert api.list_devices() == {"local": "local", "pi.5": "ssh://pi@raspberrypi.local", "phone": "adb://0123"}
    with pytest.raises(UsageError, match="did you mean 'phone'"):
        api.remove_device("phne")
    with pytest.raises(UsageError, match="edgeport devices add board"):
        load_inventory().address("board")
    assert api.remove_device("pi.5") == {"local": "local", "phone": "adb://0123"}
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["devices.toml"]


def test_this_machine_is_always_there_under_its_own_name(tmp_path):
    inventory = load_inventory(tmp_path / "none.toml")
    assert inventory.address("local") == LocalAddress()
    with pytest.raises(UsageError, match="this machine itself"):
        inventory.without("local")
    with pytest.raises(UsageError, match="this machine itself"):
        inventory.added("local", LocalAddress())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("schema_version = 2", "version 1"),
        ("schema_version = 1\nother = 1", "version 1"),
        ("schema_version = 1\ndevices = 3", "version 1"),
        ('schema_version = 1\n[devices.a]\naddress = "local"\nport = 3', "device 'a'"),
        ('schema_version = 1\n[devices.a]\naddress = "ssh://-oProxyCommand=sh"', "no address"),
        ('schema_version = 1\n[devices."-a"]\naddress = "local"', "no name"),
        ("schema_version = ", "no TOML"),
        ("a" * (1 << 20) + "a", "bytes"),
    ],
    ids=lambda text: text[:30],
)
def test_a_file_that_does_not_fit_is_refused(text, found, tmp_path):
    (tmp_path / "devices.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=found) as caught:
        load_inventory(tmp_path / "devices.toml")
    assert caught.value.asked == f"read the devices in {tmp_path / 'devices.toml'}"


def test_a_folder_that_takes_no_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="EDGEPORT_CONFIG"):
        Inventory(path=tmp_path / "file" / "devices.toml", devices={}).save()


@pytest.mark.parametrize(
    ("runtimes", "says"),
    [
        ({}, "none (nothing that runs artifacts; see edgeport devices prepare pi5)"),
        ({"numpy": "2.4.6"}, "numpy 2.4.6 (nothing that runs artifacts; see edgeport devices prepare pi5)"),
        ({"numpy": "2.4.6", "openvino": "2026.4.1"}, "numpy 2.4.6, openvino 2026.4.1"),
    ],
    ids=["bare", "numpy", "runtime"],
)
def test_a_probe_says_where_a_device_needs_a_runtime(runtimes, says, monkeypatch, capsys):
    here = api.probe_device("local")
    there = replace(here, facts=replace(here.facts, name="pi5", runtimes=runtimes))
    monkeypatch.setattr(api, "probe_device", lambda _name: there)
    assert run(["devices", "probe", "pi5"]) == 0
    assert f"runtimes      {says}\n" in capsys.readouterr().out
