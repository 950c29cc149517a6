"""A block that is gone: its input passes through."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["pass_through", "passed_through"]


def pass_through(*, returns_tuple: bool) -> torch.nn.Module:
    """A module without weights that returns the first of its arguments, in a tuple where the block did."""
    module: torch.nn.Module = _pass_through_class()(returns_tuple)
    return module


def passed_through(module: torch.nn.Module) -> dict[str, bool]:
    """Where blocks were removed: path to whether the block returned a tuple."""
    import torch

    kind = _pass_through_class()
    found: dict[str, bool] = {}
    for path, one in module.named_modules():
        if isinstance(one, kind) and isinstance(one, torch.nn.Module):
            found[path] = bool(one.returns_tuple)
    return found


@functools.cache
def _pass_through_class() -> Any:
    import torch

    class PassThrough(torch.nn.Module):
        """Stands where a block was."""

        def __init__(self, returns_tuple: bool) -> None:
            super().__init__()
            self.returns_tuple = returns_tuple

        def forward(self, value: torch.Tensor, *others: object, **named: object) -> Any:
            """Returns `value`, float [N, ...]; all else is dropped."""
            del others, named
            return (value,) if self.returns_tuple else value

    return PassThrough
