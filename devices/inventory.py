"""The user's devices by name, in a TOML file that people may edit.

Names and addresses end up in the arguments of `ssh` and `adb`, so they hold only characters that mean nothing to an
option parser or a shell. What is not of that form is refused when it is added, and when the file is read.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeport.atomic import atomic_write
from edgeport.devices.registry import other_schemes
from edgeport.errors import DeviceError, UsageError, did_you_mean

__all__ = [
    "LOCAL",
    "AdbAddress",
    "Address",
    "Inventory",
    "LocalAddress",
    "OtherAddress",
    "SshAddress",
    "check_name",
    "inventory_path",
    "load_inventory",
    "parse_address",
]

LOCAL = "local"
"""Name of the machine that Edgeport runs on; always there."""

_FILE = "devices.toml"
_VERSION = 1
_LARGEST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A name of ~/.ssh/config, of DNS, or an IPv4 address; user names as useradd(8) and directories have them.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,253}")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,32})?)\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
# A serial number, the name of an emulator, host:port, or what mDNS found (adb-1234-abcd._adb-tls-connect._tcp).
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
# Of kinds that other packages bring: schemes as in RFC 3986, places of characters that no shell and no TOML reads.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
_PLACE = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9._:/@%+=,-]{0,254}")
SSH_CLIENTS = ("ssh", "asyncssh")
"""Schemes of hosts that are reached over SSH, by whom."""
_FORMS = "ssh://[user@]host[:port], adb://SERIAL or local"


@dataclass(frozen=True, kw_only=True)
class LocalAddress:
    """The machine that Edgeport runs on."""

    def __str__(self) -> str:
        return LOCAL


@dataclass(frozen=True, kw_only=True)
class SshAddress:
    """A machine that the user's `ssh` reaches.

    Attributes:
        host: Name of a host, alias of the user's configuration, or IP address (IPv6 without brackets).
        user: Empty: what `ssh` takes.
        port: None: what `ssh` takes.
        client: "ssh", the system's own, or "asyncssh".

    """

    host: str
    user: str = ""
    port: int | None = None
    client: str = "ssh"

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        good = (_IPV6 if ":" in self.host else _HOST).fullmatch(host) and (not self.user or _USER.fullmatch(self.user))
        if not good or self.client not in SSH_CLIENTS or (self.port is not None and not 0 < self.port < 1 << 16):
            raise _no_address(f"{self.client}://{self.user}@{host}:{self.port}")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.client}://{self.user}{'@' * bool(self.user)}{host}{'' if self.port is None else f':{self.port}'}"


@dataclass(frozen=True, kw_only=True)
class AdbAddress:
    """An Android device that the user's `adb` reaches.

    Attributes:
        serial: As `adb devices` lists it.

    """

    serial: str

    def __post_init__(self) -> None:
        if not _SERIAL.fullmatch(self.serial):
            raise _no_address(f"adb://{self.serial}")

    def __str__(self) -> str:
        return f"adb://{self.serial}"


@dataclass(frozen=True, kw_only=True)
class OtherAddress:
    """A device of a kind that another package brings (see `registry`).

    Attributes:
        scheme: Of the kind.
        place: What that package finds it by.

    """

    scheme: str
    place: str

    def __post_init__(self) -> None:
        if not _SCHEME.fullmatch(self.scheme) or not _PLACE.fullmatch(self.place):
            raise _no_address(f"{self.scheme}://{self.place}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"


Address = LocalAddress | SshAddress | AdbAddress | OtherAddress


def parse_address(text: str) -> Address:
    """The address that a text says: `ssh://[user@]host[:port]`, `adb://SERIAL`, `local`, or of an installed kind.

    Raises:
        UsageError: It is none, holds a character that an address has no use for, or nothing installed knows its kind.

    """
    address = _read_address(text)
    if isinstance(address, OtherAddress):
        known = other_schemes()
        if address.scheme not in known:
            forms = ", ".join((*(f"{scheme}://PLACE" for scheme in known), _FORMS))
            raise UsageError(
                asked=f"use a device at {text!r}",
                found=f"no installed package that knows {address.scheme}://",
                fix=f"write {forms}; or install the package that brings {address.scheme}",
            )
    return address


def _read_address(text: str) -> Address:
    """Its form alone counts: a file of devices stays whole where a package is gone."""
    if text == LOCAL:
        return LocalAddress()
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _no_address(text)
    if scheme == "adb":
        return AdbAddress(serial=rest)
    if scheme not in SSH_CLIENTS:
        return OtherAddress(scheme=scheme, place=rest)
    user, at, place = rest.rpartition("@")
    if bool(at) != bool(user):
        raise _no_address(text)
    bracketed = _IPV6.match(place)
    host, after = (bracketed[1], place[bracketed.end() :]) if bracketed else _split(place)
    if after and not re.fullmatch(r":[0-9]{1,5}", after):
        raise _no_address(text)
    try:
        return SshAddress(host=host, user=user, port=int(after[1:]) if after else None, client=scheme)
    except UsageError:
        raise _no_address(text) from None


def _split(place: str) -> tuple[str, str]:
    host, colon, port = place.partition(":")
    return host, colon + port


def _no_address(text: str) -> UsageError:
    return UsageError(
        asked=f"use a device at {text!r}",
        found="no address of a device",
        fix=f"write {_FORMS}, without other characters",
    )


def check_name(name: str) -> None:
    """Refuses what is no name of a device: letters, digits, `.`, `_` and `-`, 64 at most, the first no sign.

    Raises:
        UsageError: It is none.

    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            asked=f"call a device {name!r}",
            found="no name",
            fix="use letters, digits, '.', '_' and '-', and begin with a letter or digit (64 characters at most)",
        )


def inventory_path() -> Path:
    """The file of devices: in `EDGEPORT_CONFIG`, else in the user's folder of configurations."""
    import platformdirs

    named = os.environ.get("EDGEPORT_CONFIG")
    return (Path(named) if named else Path(platformdirs.user_config_dir("edgeport"))) / _FILE


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The user's devices.

    Attributes:
        path: The file they are kept in.
        devices: Name to address, in the order of the file; `local` is not among them.

    """

    path: Path
    devices: Mapping[str, Address]

    def address(self, name: str) -> Address:
        """Of a device; `local` is always there.

        Raises:
            UsageError: There is no such device.

        """
        if name == LOCAL:
            return LocalAddress()
        if name not in self.devices:
            check_name(name)
            raise UsageError(
                asked=f"use the device {name!r}",
                found=f"the devices {', '.join([LOCAL, *self.devices])}",
                fix=did_you_mean(name, [LOCAL, *self.devices], f"add it: edgeport devices add {name} ssh://user@host"),
            )
        return self.devices[name]

    def added(self, name: str, address: Address) -> Inventory:
        """The inventory with one more device.

        Raises:
            UsageError: No name, or one that another device has.

        """
        check_name(name)
        if name == LOCAL:
            raise UsageError(
                asked=f"call a device {name!r}", found="the name of this machine itself", fix="choose another name"
            )
        known = self.devices.get(name)
        if known not in (None, address):
            raise UsageError(
                asked=f"add {name} at {address}",
                found=f"that {name} is {known}",
                fix=f"choose another name, or remove it first: edgeport devices remove {name}",
            )
        return Inventory(path=self.path, devices={**self.devices, name: address})

    def without(self, name: str) -> Inventory:
        """The inventory without one device.

        Raises:
            UsageError: There is no such device, or it is this machine.

        """
        if name == LOCAL:
            raise UsageError(
                asked=f"remove the device {name!r}", found="this machine itself", fix="it is always there; leave it"
            )
        self.address(name)
        return Inventory(path=self.path, devices={one: at for one, at in self.devices.items() if one != name})

    def save(self) -> None:
        """Writes the file, in one step.

        Raises:
            DeviceError: It can't be written.

        """
        lines = ["# Devices of Edgeport: edgeport devices add NAME ADDRESS", f"schema_version = {_VERSION}"]
        for name, address in self.devices.items():
            lines += ["", f'[devices."{name}"]', f'address = "{address}"']  # neither can hold a quote
        path = self.path.resolve()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, "\n".join(lines) + "\n")
        except OSError as error:
            raise DeviceError(
                asked=f"write {path}", found=str(error), fix="free space, or set EDGEPORT_CONFIG to another folder"
            ) from error


def load_inventory(path: Path | None = None) -> Inventory:
    """The devices in the file; none where there is no file.

    Args:
        path: The user's own file (`inventory_path`) by default.

    Raises:
        UsageError: The file is not one that `save` could have written; names the device.

    """
    place = path if path is not None else inventory_path()
    try:
        with place.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return Inventory(path=place, devices={})
    except OSError as error:
        raise _damaged(place, str(error)) from error
    if len(data) > _LARGEST_BYTES:
        raise _damaged(place, f"more than {_LARGEST_BYTES} bytes")
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _damaged(place, f"no TOML ({error})") from error
    unknown = set(values) - {"schema_version", "devices"}
    devices = values.get("devices", {})
    if unknown or values.get("schema_version") != _VERSION or not isinstance(devices, dict):
        raise _damaged(place, f"another schema than version {_VERSION}")
    return Inventory(path=place, devices={name: _address(place, name, entry) for name, entry in devices.items()})


def _address(path: Path, name: str, entry: Any) -> Address:
    if not isinstance(entry, dict) or set(entry) != {"address"} or not isinstance(entry["address"], str):
        raise _damaged(path, f"more or less than an address at the device {name!r}")
    try:
        check_name(name)
        return _read_address(entry["address"])
    except UsageError as error:
        raise _damaged(path, f"{error.found} at the device {name!r}: {error.asked}") from error


def _damaged(path: Path, found: str) -> UsageError:
    return UsageError(
        asked=f"read the devices in {path}",
        found=found,
        fix='write schema_version = 1 and a table [devices.NAME] with address = "..." for each, or remove the file',
    )
