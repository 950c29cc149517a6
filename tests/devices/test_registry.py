"""Kinds of devices that other packages bring."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from edgeport import api
from edgeport.contracts import MaintainedDevice
from edgeport.devices import registry
from edgeport.devices.bootstrap import COMMAND
from edgeport.devices.inventory import OtherAddress, load_inventory, parse_address
from edgeport.devices.local import LocalDevice
from edgeport.devices.opening import maintained_device, open_device
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import DependencyError, DeviceError, UsageError


class _Here:
    """A transport that is a shell of this machine, with a folder of its own."""

    def __init__(self, home):
        self._home = home

    def command(self):
        return ["env", f"XDG_CACHE_HOME={self._home}", "sh", "-c", COMMAND]

    def explain(self, status, stderr):
        return DeviceError(asked="reach it", found=stderr, fix="look")


def create_here(*, name, place, workdir):
    return RemoteDevice(name, _Here(place), workdir)


def create_plain(*, name, place, workdir):
    """Neither probed nor cleaned: `Device` and nothing more."""

    class Plain:
        facts = push = reserve = run = pull = discard = close = lambda self, *_: None

    return Plain()


def create_broken(*, name, place, workdir):
    raise OSError("no such port")


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """Entry points as packages would have them, and a list of devices of the test's own."""
    monkeypatch.setenv("EDGEPORT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "of_others", sys.modules[__name__])
    names = {"here": "create_here", "plain": "create_plain", "broken": "create_broken", "ssh": "create_here"}
    points = [EntryPoint(scheme, f"of_others:{factory}", registry.GROUP) for scheme, factory in names.items()]
    points.append(EntryPoint("absent", "no_such_module:make", registry.GROUP))
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    return points


def test_a_device_of_another_package_is_a_device_like_any_other(tmp_path):
    assert api.add_device("box", f"here://{tmp_path / 'home'}") == {
        "local": "local",
        "box": f"here://{tmp_path / 'home'}",
    }
    found = api.probe_device("box")
    assert found.facts.name == "box"
    (tmp_path / "a").write_bytes(b"\0\n" * 1000)
    with open_device("box", tmp_path / "work") as device:
        assert isinstance(device, MaintainedDevice)
        device.pull(device.push(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert api.clean_device("box")["folder"] == str(tmp_path / "home" / "edgeport-device")


def test_a_kind_that_nobody_brings_is_refused_when_it_is_added():
    with pytest.raises(UsageError, match=r"no installed package that knows http://; .*absent://PLACE.*ssh://\[user@\]"):
        api.add_device("box", "http://host")


def test_a_package_that_is_gone_leaves_the_other_devices(installed, tmp_path):
    api.add_device("box", "plain://0")
    api.add_device("pi5", "ssh://pi5")
    installed.clear()
    assert load_inventory().address("box") == OtherAddress(scheme="plain", place="0")
    assert api.list_devices() == {"local": "local", "box": "plain://0", "pi5": "ssh://pi5"}
    with pytest.raises(DependencyError, match="install the package that brings plain"), open_device("box", tmp_path):
        pass


@pytest.mark.parametrize(("scheme", "says"), [("broken", "OSError: no such port"), ("absent", "no_such_module")])
def test_what_does_not_start_names_its_package(scheme, says, tmp_path):
    api.add_device("box", f"{scheme}://0")
    with pytest.raises(DependencyError, match=says), open_device("box", tmp_path):
        pass


def test_our_own_kinds_are_not_replaced():
    assert "ssh" not in registry.other_schemes()


def test_a_device_without_upkeep_says_so(tmp_path):
    api.add_device("box", "plain://0")
    for asked in (api.probe_device, api.prepare_device, api.clean_device):
        with pytest.raises(UsageError, match="a Plain, which is neither probed, prepared nor cleaned"):
            asked("box")
    assert not isinstance(LocalDevice(tmp_path), MaintainedDevice)
    with pytest.raises(UsageError, match="this machine itself"), maintained_device("local", tmp_path):
        pass


@pytest.mark.parametrize("place", ["", "-x", "a b", "a\nb", 'a"b', "$(id)", "a;b", "a'b", "\u202ea", "x" * 300])
def test_a_place_that_could_mean_more_is_refused(place):
    with pytest.raises(UsageError, match="no address of a device"):
        parse_address(f"here://{place}")


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-device.md"


@pytest.mark.skipif(shutil.which("taskset") is None or not PAGE.exists(), reason="taskset, and a checkout")
def test_the_device_of_the_page_is_reached_by_its_name(monkeypatch, tmp_path):
    for block in re.findall(r"^```\w+\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        named = re.match(r"# (cores_device\S*)\n", block)
        if named:
            (tmp_path / named[1]).parent.mkdir(exist_ok=True)
            (tmp_path / named[1]).write_text(block)
    monkeypatch.setattr(registry, "entry_points", metadata.entry_points)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    usable = min(os.sched_getaffinity(0))
    api.add_device("first", f"cores://{usable}")
    assert api.probe_device("first").facts.cores == 1
    api.add_device("none", "cores://none")
    with pytest.raises(DeviceError, match=r"use the processors none.*as 0 or 0-3,6"):
        api.probe_device("none")
