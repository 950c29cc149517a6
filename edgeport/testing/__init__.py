"""The contract suites that every backend and every device passes, ours and others': tests to subclass. Needs pytest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgeport.testing.backend_suite import BackendSuite
    from edgeport.testing.device_suite import DeviceSuite

__all__ = ["BackendSuite", "DeviceSuite"]

_HOMES = {"BackendSuite": "edgeport.testing.backend_suite", "DeviceSuite": "edgeport.testing.device_suite"}

pytest.register_assert_rewrite(*_HOMES.values())  # a failed assertion tells its values


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
