"""A device by its name in the user's inventory, opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeport.contracts import Device, DeviceProbe, load_json
from edgeport.devices.inventory import LOCAL, AdbAddress, LocalAddress, SshAddress, load_inventory
from edgeport.devices.local import LocalDevice
from edgeport.devices.remote import RemoteDevice
from edgeport.errors import UsageError

__all__ = ["local_probe", "open_device", "remote_device"]


@contextmanager
def open_device(name: str, workdir: Path) -> Iterator[Device]:
    """The device of this name, which is closed in the end.

    Args:
        name: Of the inventory; "local" is this machine.
        workdir: Where agents and the files of running jobs are kept on this machine.

    Raises:
        UsageError: There is no such device.

    """
    address = load_inventory().address(name)
    device: Device = LocalDevice(workdir) if isinstance(address, LocalAddress) else remote_device(name, workdir)
    try:
        yield device
    finally:
        device.close()


def remote_device(name: str, workdir: Path) -> RemoteDevice:
    """A device that is not this machine; nothing is connected yet.

    Raises:
        UsageError: There is no such device, or it is this machine.

    """
    address = load_inventory().address(name)
    if isinstance(address, SshAddress):
        from edgeport.devices.ssh import SshTransport

        return RemoteDevice(name, SshTransport(address), workdir)
    if isinstance(address, AdbAddress):
        from edgeport.devices.adb import AdbTransport

        return RemoteDevice(name, AdbTransport(address), workdir)
    raise UsageError(asked=f"reach the device {name!r}", found="this machine itself", fix="name another device")


def local_probe() -> DeviceProbe:
    """Everything that this machine tells of itself."""
    from edgeport.devices.agent.probing import probe_device

    found = probe_device()
    return load_json(DeviceProbe, json.dumps({**found, "facts": {**found["facts"], "name": LOCAL}}))
