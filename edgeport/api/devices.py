"""The devices that artifacts are timed on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    DeviceFacts,
    DeviceProbe,
    MaintainedDevice,
)

if TYPE_CHECKING:
    from edgeport.devices.profiles import Profile

__all__ = [
    "add_device",
    "clean_device",
    "device_profiles",
    "list_devices",
    "prepare_device",
    "probe_device",
    "remove_device",
]


def add_device(name: str, address: str) -> dict[str, str]:
    """Keeps a device in the user's inventory; nothing is connected.

    Args:
        name: Letters, digits, `.`, `_` and `-`; the first is a letter or digit.
        address: `ssh://[user@]host[:port]` (or `asyncssh://`: by that client), `adb://SERIAL`, `local`, or
            `SCHEME://PLACE` of an installed package.

    Returns:
        As `list_devices`.

    Raises:
        UsageError: No name, no address, or another device has the name.

    """
    from edgeport.devices.inventory import load_inventory, parse_address

    load_inventory().added(name, parse_address(address)).save()
    return list_devices()


def list_devices() -> dict[str, str]:
    """Name to address of every device; "local", this machine, is always there."""
    from edgeport.devices.inventory import LOCAL, load_inventory

    return {LOCAL: LOCAL} | {name: str(at) for name, at in load_inventory().devices.items()}


def device_profiles() -> Mapping[str, Profile]:
    """Kinds of devices by name, each with what is right for it before one is asked."""
    from edgeport.devices.profiles import PROFILES

    return PROFILES


def remove_device(name: str) -> dict[str, str]:
    """Forgets a device of the user's inventory; what lies on it stays there.

    Returns:
        As `list_devices`.

    Raises:
        UsageError: There is no such device.

    """
    from edgeport.devices.inventory import load_inventory

    load_inventory().without(name).save()
    return list_devices()


def probe_device(name: str) -> DeviceProbe:
    """Everything that a device tells of itself, and which sources it lacks.

    Args:
        name: Of the inventory; "local" is this machine.

    Raises:
        UsageError: There is no such device.
        DeviceError: It can't be reached.

    """
    from edgeport.devices.inventory import LocalAddress, load_inventory
    from edgeport.devices.opening import local_probe

    if isinstance(load_inventory().address(name), LocalAddress):
        return local_probe()
    with _maintained(name) as device:
        return device.probe()


def prepare_device(
    name: str, *, packages: Sequence[str] = ("numpy", "onnxruntime"), wheels: Path | None = None
) -> DeviceFacts:
    """Makes an isolated environment of Python on a device, with the runtimes that artifacts need.

    Args:
        name: Of the inventory; not this machine.
        packages: Distributions, each with or without `==VERSION`.
        wheels: A folder of wheels that is brought there; nothing is fetched from elsewhere then.

    Returns:
        The facts of the device with it.

    Raises:
        UsageError: There is no such device, or no such name of a package.
        DeviceError: It can't be reached, or they could not be installed.

    """
    with _maintained(name) as device:
        return device.prepare(packages, wheels)


def clean_device(name: str) -> dict[str, Any]:
    """Removes everything that Edgeport keeps on a device: files, agents, the prepared environment.

    Args:
        name: Of the inventory; not this machine.

    Returns:
        `freed_bytes`, and `folder`, there.

    Raises:
        UsageError: There is no such device.
        DeviceError: It can't be reached, or another run is using it.

    """
    with _maintained(name) as device:
        return dict(device.clean())


@contextmanager
def _maintained(name: str) -> Iterator[MaintainedDevice]:
    from edgeport.devices.opening import maintained_device

    with (
        tempfile.TemporaryDirectory(prefix="edgeport-device-") as folder,
        maintained_device(name, Path(folder)) as device,
    ):
        yield device
