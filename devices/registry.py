"""Devices that others have written: the scheme of an address to what makes the device."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from edgeport.errors import DependencyError, EdgeportError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Protocol

    from edgeport.contracts import Device

    class DeviceFactory(Protocol):
        """What an entry point names."""

        def __call__(self, *, name: str, place: str, workdir: Path) -> Device:
            """The device; it need not be connected before it is asked for something.

            Args:
                name: As the user calls it; its facts say so.
                place: What follows `SCHEME://` in its address.
                workdir: Where files may be kept on this machine while it is open.

            """
            ...


__all__ = ["GROUP", "made_by_others", "other_schemes"]

GROUP = "edgeport.devices"
"""Entry points of this group are kinds of devices: scheme to `pkg.mod:factory`."""

_OURS = {"adb", "asyncssh", "local", "ssh"}


def other_schemes() -> tuple[str, ...]:
    """Schemes of installed packages, by name; none takes the place of our own."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)} - _OURS))


def made_by_others(scheme: str, *, name: str, place: str, workdir: Path) -> Device:
    """The device at `SCHEME://PLACE`.

    Raises:
        DependencyError: No installed package brings the scheme, or what it names does not import.

    """
    asked = f"reach the device {name!r} at {scheme}://{place}"
    location = next((point.value for point in entry_points(group=GROUP) if point.name == scheme), None)
    if location is None or scheme in _OURS:
        known = ", ".join(("ssh", "adb", *other_schemes()))
        raise DependencyError(asked=asked, found=f"the kinds {known}", fix=f"install the package that brings {scheme}")
    module, _, attribute = location.partition(":")
    try:
        factory: DeviceFactory = getattr(importlib.import_module(module), attribute)
        return factory(name=name, place=place, workdir=workdir)
    except EdgeportError:
        raise
    except Exception as error:  # somebody else's code
        raise DependencyError(
            asked=asked,
            found=f"that {location} raised {type(error).__name__}: {error}",
            fix="see what its package needs here, or install another release of it",
        ) from error
