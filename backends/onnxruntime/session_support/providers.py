"""Execution providers that can be used here: the runtime's own, and those of plug-ins.

Ships to devices within `session.py`: Python 3.8 syntax, standard library, numpy and onnxruntime only.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys
from typing import Any

import onnxruntime as ort

__all__ = ["devices_of", "known_providers", "unusable_plug_ins"]

_LIBRARIES = "EDGEPORT_ORT_LIBRARIES"
_registered: dict[str, str] = {}


def known_providers() -> list[str]:
    """Execution providers that can be asked for here: those in the runtime, and those of plug-ins that see a device."""
    unusable = unusable_plug_ins()
    return list(dict.fromkeys([*ort.get_available_providers(), *(one for one in _plug_ins() if one not in unusable)]))


def unusable_plug_ins() -> dict[str, str]:
    """Providers of plug-ins that can't be asked for here, and why, in words that stand behind "found".

    A package that does not import, so that nobody knows what it provides, stands there by its own name.
    """
    broken: dict[str, str] = {}
    unusable = {name: why for name, path in _plug_ins(broken).items() for why in [_why_not(name, path)] if why}
    return {**unusable, **broken}


def _why_not(name: str, path: str) -> str:
    try:
        seen = _devices_seen(name, path)
    except Exception as error:  # noqa: BLE001 (a library raises what it likes; it is told, not hidden)
        return f"that its library ({path}) does not load: {error}"
    return "" if seen else f"no device here that its library ({os.path.basename(path)}) takes"  # noqa: PTH119 (see `open_session`)


def devices_of(name: str) -> list[Any]:
    """What a provider of a plug-in can run on, as the runtime lists it.

    Raises:
        RuntimeError: No such provider, its library does not load, or it sees no device of its kind.

    """
    broken: dict[str, str] = {}
    plugged = _plug_ins(broken)
    if name not in plugged:
        told = "".join(f", and of {package} {why}" for package, why in broken.items())
        raise RuntimeError(
            f"asked to run on {name}; found providers {', '.join([*ort.get_available_providers(), *plugged])}{told}; "
            f"install the package that has it, or name its library: {_LIBRARIES}={name}=PATH"
        )
    why = _why_not(name, plugged[name])
    if why:
        raise RuntimeError(f"asked to run on {name}; found {why}; run it where it can be used")
    return _devices_seen(name, plugged[name])


def _devices_seen(name: str, path: str) -> list[Any]:
    """Devices that the plug-in of that provider sees; its library is loaded at the first time."""
    if _registered.get(name) != path:
        ort.register_execution_provider_library(name, path)
        _registered[name] = path
    return [device for device in ort.get_ep_devices() if device.ep_name == name]


def _plug_ins(broken: dict[str, str] | None = None) -> dict[str, str]:
    """Providers outside of the runtime, by name, with their libraries: what the environment names, then packages.

    Packages by the convention of https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/packaging.html:
    a module that gives `get_library_path` and `get_ep_names`. Those that raise are put into `broken`, with what they
    said.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        return {}
    named = (part.partition("=") for part in os.environ.get(_LIBRARIES, "").split(os.pathsep))
    found = {name: path for name, _, path in named if name and path}
    for module in _plug_in_modules(tuple(sys.path)):
        try:
            package = importlib.import_module(module)
            path = str(package.get_library_path())
            names = package.get_ep_names() if hasattr(package, "get_ep_names") else [package.get_ep_name()]
        except Exception as error:  # noqa: BLE001 (whatever a broken package raises, it has no provider)
            if broken is not None:
                broken[module] = f"that the package does not import: {type(error).__name__}: {error}"
            continue
        for name in names:
            found.setdefault(str(name), path)
    return found


@functools.lru_cache(maxsize=1)
def _plug_in_modules(searched: tuple[str, ...]) -> tuple[str, ...]:
    """Modules in these folders that plug-ins' names fit; kept, for every session asks, and a listing takes 20 ms."""
    names = (module.name for module in pkgutil.iter_modules(searched))
    return tuple(name for name in names if name.startswith("onnxruntime_ep_") or name == "onnxruntime_qnn")
