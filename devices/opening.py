"""A device by its name in the user's inventory, opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeport.contracts import Device, DeviceProbe, MaintainedDevice, load_json
from edgeport.devices.inventory import (
    LOCAL,
    AdbAddress,
    Address,
    LocalAddress,
    OtherAddress,
    SshAddress,
    load_inventory,
)
from edgeport.devices.local import LocalDevice
from edgeport.devices.registry import made_by_others
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import UsageError

__all__ = ["local_probe", "maintained_device", "open_device", "probe_of"]


@contextmanager
def open_device(name: str, workdir: Path) -> Iterator[Device]:
    """The device of this name, which is closed in the end.

    Args:
        name: Of the inventory; "local" is this machine.
        workdir: Where agents and the files of running jobs are kept on this machine.

    Raises:
        UsageError: There is no such device.
        DependencyError: Its kind is of a package that is not installed, or does not import.

    """
    device = _device(name, load_inventory().address(name), workdir)
    try:
        yield device
    finally:
        device.close()


@contextmanager
def maintained_device(name: str, workdir: Path) -> Iterator[MaintainedDevice]:
    """A device that is not this machine, which is closed in the end; nothing is connected yet.

    Raises:
        UsageError: There is no such device, it is this machine, or its kind can't be maintained.
        DependencyError: See `open_device`.

    """
    with open_device(name, workdir) as device:
        if isinstance(device, LocalDevice):
            raise UsageError(asked=f"reach the device {name!r}", found="this machine itself", fix="name another device")
        if not isinstance(device, MaintainedDevice):
            raise UsageError(
                asked=f"maintain the device {name!r}",
                found=f"a {type(device).__name__}, which is neither probed, prepared nor cleaned from here",
                fix="see how its package wants it looked after; jobs can be run on it",
            )
        yield device


def _device(name: str, address: Address, workdir: Path) -> Device:
    match address:
        case LocalAddress():
            return LocalDevice(workdir)
        case SshAddress(client="asyncssh"):
            from edgeport.devices.asyncssh_client import AsyncSshTransport

            return RemoteDevice(name, AsyncSshTransport(address), workdir)
        case SshAddress():
            from edgeport.devices.ssh import SshTransport

            return RemoteDevice(name, SshTransport(address), workdir)
        case AdbAddress():
            return _android(name, address, workdir)
        case OtherAddress():
            return made_by_others(address.scheme, name=name, place=address.place, workdir=workdir)


def _android(name: str, address: AdbAddress, workdir: Path) -> Device:
    """With the agent where there is a Python, or nothing at all; else with the benchmark programs that are there."""
    from edgeport.devices.adb import AdbTransport
    from edgeport.devices.android import Shell, look
    from edgeport.devices.android_benchmark import NativeDevice

    shell = Shell(address, name)
    found = look(shell)
    if not found.python and found.programs:
        return NativeDevice(name, shell, found, workdir)
    return RemoteDevice(name, AdbTransport(address), workdir)


def probe_of(device: Device) -> DeviceProbe | None:
    """Everything that an opened device tells of itself; None where its kind can't be asked.

    Raises:
        DeviceError: It can't be reached, or its answer makes no sense.

    """
    if isinstance(device, LocalDevice):
        return local_probe()
    return device.probe() if isinstance(device, MaintainedDevice) else None


def local_probe() -> DeviceProbe:
    """Everything that this machine tells of itself."""
    from edgeport.devices.agent.probing import probe_device

    found = probe_device()
    return load_json(DeviceProbe, json.dumps({**found, "facts": {**found["facts"], "name": LOCAL}}))
