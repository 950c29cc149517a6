"""What is installed and usable on this machine, what is missing, and how to get it.

Whatever loads a runtime does so in a child: a runtime that crashes when it is imported is an answer, too.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from edgeport.contracts import Capabilities, DeviceFacts, Limits, load_json

__all__ = ["Diagnosis", "PackageStatus", "StoreStatus", "diagnose"]

_PROBE_LIMITS = Limits(time_s=120.0, memory_bytes=4 << 30)

_PACKAGES = {
    "onnx": ("", "reading models"),
    "onnx-ir": ("", "passes over models"),
    "onnxscript": ("", "export"),
    "onnxruntime": ("", "verification, calibration, a target"),
    "torch": ("torch", "export"),
    "openvino": ("openvino", "a target"),
    "tensorrt": ("tensorrt", "a target"),
    "tensorrt-rtx-cu13-bindings": ("tensorrt-rtx", "a target"),
    "bokeh": ("report", "report.html"),
    "jinja2": ("report", "report.html"),
    "scikit-learn": ("quickstart", "the quickstart's data"),
    "torchvision": ("", "models named torchvision:NAME"),
    "timm": ("", "models named timm:NAME"),
    "transformers": ("hf", "models named hf:FOLDER"),
}
"""Distribution to the extra that brings it (empty: the core, or none), and what it is for."""

_WITHOUT_EXTRA = {"torchvision", "timm"}


@dataclass(frozen=True, kw_only=True)
class PackageStatus:
    """One package.

    Attributes:
        name: Of the distribution.
        version: Empty where it is not installed.
        purpose: What Edgeport needs it for.
        install: The command that brings it.

    """

    name: str
    version: str
    purpose: str
    install: str


@dataclass(frozen=True, kw_only=True)
class StoreStatus:
    """The store of finished work.

    Attributes:
        root: Its folder.
        size_bytes: Of everything in it.
        writable: Whether runs can keep results there.

    """

    root: Path
    size_bytes: int
    writable: bool


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything the doctor looked at.

    Attributes:
        edgeport, python: Versions.
        device: This machine.
        packages: Those that Edgeport uses, installed or not.
        backends: What each can do here, asked of the runtime itself.
        store: Where finished work is kept.
        problems: What stops work that everybody does, one sentence each with its remedy; empty where all is well.

    """

    edgeport: str
    python: str
    device: DeviceFacts
    packages: tuple[PackageStatus, ...]
    backends: tuple[Capabilities, ...]
    store: StoreStatus
    problems: tuple[str, ...] = field(default=())
    schema_version: int = 1


def diagnose(*, store: Path | None = None) -> Diagnosis:
    """Looks at everything; never fails for what is missing.

    Args:
        store: Folder of the store; the default one if None.

    """
    from edgeport import __version__
    from edgeport.backends.registry import available_backends

    names = available_backends()
    with ThreadPoolExecutor(max_workers=max(len(names), 1)) as pool:
        backends = tuple(pool.map(_probed, names))
    packages = tuple(_package(name) for name in _PACKAGES)
    state = _store(store)
    return Diagnosis(
        edgeport=__version__,
        python=platform.python_version(),
        device=_device(),
        packages=packages,
        backends=backends,
        store=state,
        problems=tuple(_problems(packages, backends, state)),
    )


def _probed(name: str) -> Capabilities:
    from edgeport.pipeline.compilation.accelerators import as_opened
    from edgeport.pipeline.compilation.probe import probed_with_accelerators

    return as_opened(*probed_with_accelerators(name, _PROBE_LIMITS))


def _package(name: str) -> PackageStatus:
    from importlib.metadata import PackageNotFoundError, version

    extra, purpose = _PACKAGES[name]
    if extra:
        install = f'pip install "edgeport[{extra}]"'
    else:
        install = f"pip install {name}" if name in _WITHOUT_EXTRA else "pip install --force-reinstall edgeport"
    try:
        found = version(name)
    except PackageNotFoundError:
        found = ""
    return PackageStatus(name=name, version=found, purpose=purpose, install=install)


def _device() -> DeviceFacts:
    from edgeport.devices.agent.facts import device_facts

    return load_json(DeviceFacts, json.dumps({"name": "local", **device_facts()}))


def _store(root: Path | None) -> StoreStatus:
    from edgeport.store import Store

    folder = Store(root).root
    size = 0
    for current, _, names in os.walk(folder):
        for name in names:
            try:
                size += Path(current, name).lstat().st_size
            except OSError:
                continue  # removed meanwhile
    nearest = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), folder)
    return StoreStatus(root=folder, size_bytes=size, writable=nearest.is_dir() and os.access(nearest, os.W_OK))


def _problems(packages: Sequence[PackageStatus], backends: Sequence[Capabilities], store: StoreStatus) -> list[str]:
    versions = {package.name: package for package in packages}
    found = [
        f"{package.name} is missing, though every installation has it; {package.install}"
        for package in packages
        if not package.version and not _PACKAGES[package.name][0] and package.name not in _WITHOUT_EXTRA
    ]
    if not versions["torch"].version:
        found.append(f"PyTorch is missing: only .onnx models can be used; {versions['torch'].install}")
    if not any(backend.installed and backend.can_run for backend in backends):
        found.append("no runtime can run models here; pip install onnxruntime")
    if not store.writable:
        found.append(f"the store {store.root} can't be written; set EDGEPORT_STORE to another folder")
    return found
