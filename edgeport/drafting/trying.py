"""Runs a module on drawn inputs, to see whether it takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgeport.drafting.guess import Guess, draw

if TYPE_CHECKING:
    import torch

__all__ = ["Runs", "forward", "problem_of", "runs_with"]

Runs = Callable[[Sequence[Guess]], str]
"""Why a model does not run with these inputs; empty where it does."""


def forward(module: torch.nn.Module, guesses: Sequence[Guess], batch: int) -> dict[str, Any]:
    """Outputs by name of a batch of random samples; raises whatever the module raises."""
    from edgeport.exporter.feeds import bind_feeds, run_eagerly
    from edgeport.exporter.quiet import quiet

    feeds = draw(guesses, batch)
    with quiet():
        return run_eagerly(module, bind_feeds(module, feeds, {}), feeds)


def problem_of(module: torch.nn.Module, guesses: Sequence[Guess], batch: int) -> str:
    """Why the model does not run with these inputs; empty where it does."""
    try:
        forward(module, guesses, batch)
    except Exception as error:  # noqa: BLE001 (the user's forward raises anything)
        return f"{type(error).__name__}: {str(error).strip()}"
    return ""


def runs_with(module: torch.nn.Module) -> Runs:
    """Tries two samples, then one."""

    def tried(guesses: Sequence[Guess]) -> str:
        problem = problem_of(module, guesses, 2)
        return problem if problem and problem_of(module, guesses, 1) else ""

    return tried
