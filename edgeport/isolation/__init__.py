"""Runs work on models from outside in a child process, so that a crash or a hang there is an error here.

The child imports this package too, before it has tied itself to its parent; so nothing is loaded until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeport.isolation.parent import run_isolated

__all__ = ["run_isolated"]


def __getattr__(name: str) -> object:
    if name == "run_isolated":
        from edgeport.isolation.parent import run_isolated

        return run_isolated
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
