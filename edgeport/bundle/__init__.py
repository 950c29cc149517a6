"""The folder that ships: the artifact, a program that runs it, and a manifest by which both can be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeport.bundle.contents import BundleContents
    from edgeport.bundle.measured import load_measured
    from edgeport.bundle.place import check_place, remove_bundle
    from edgeport.bundle.running import ReplayResult, run_bundle
    from edgeport.bundle.verify import load_bundle, verify_bundle
    from edgeport.bundle.write import write_bundle

__all__ = [
    "BundleContents",
    "ReplayResult",
    "check_place",
    "load_bundle",
    "load_measured",
    "remove_bundle",
    "run_bundle",
    "verify_bundle",
    "write_bundle",
]

_HOME = {
    "BundleContents": "contents",
    "ReplayResult": "running",
    "check_place": "place",
    "load_bundle": "verify",
    "load_measured": "measured",
    "remove_bundle": "place",
    "run_bundle": "running",
    "verify_bundle": "verify",
    "write_bundle": "write",
}


def __getattr__(name: str) -> object:
    """Loads a module when it is first used, so that `import edgeport.bundle` costs nothing."""
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f"edgeport.bundle.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
