"""Puts the four folders together: from a recipe to a chosen, verified, timed bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeport.pipeline.run import run_recipe

__all__ = ["run_recipe"]


def __getattr__(name: str) -> object:
    if name == "run_recipe":
        from edgeport.pipeline.run import run_recipe

        return run_recipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
