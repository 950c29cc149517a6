"""Runs a module on drawn inputs, to see whether it takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgeport.exporter.explain import user_line
from edgeport.recipe_init.input_spec import Guess, draw

if TYPE_CHECKING:
    import torch

__all__ = ["Runs", "RunsWith", "forward", "problem_of"]

Runs = Callable[[Sequence[Guess]], str]
"""Why a model does not run with these inputs; empty where it does."""


def forward(module: torch.nn.Module, guesses: Sequence[Guess], batch: int) -> dict[str, Any]:
    """Outputs by name of a batch of random samples; raises whatever the module raises."""
    from edgeport.exporter.input_binding import bind_feeds, run_eagerly
    from edgeport.exporter.silence import quiet

    feeds = draw(guesses, batch)
    with quiet():
        return run_eagerly(module, bind_feeds(module, feeds, {}), feeds)


def problem_of(module: torch.nn.Module, guesses: Sequence[Guess], batch: int) -> str:
    """Why the model does not run with these inputs; empty where it does."""
    try:
        forward(module, guesses, batch)
    except Exception as error:  # noqa: BLE001 (the user's forward raises anything)
        line = user_line(error)
        return f"{type(error).__name__}{f' at {line}' if line else ''}: {str(error).strip()}"
    return ""


class RunsWith:
    """Tries two samples, then one; with each of the states that the module may take beside what is tried.

    Args:
        module: It runs.
        states: Combinations of states; empty for a module without.

    Attributes:
        states: Those with which it ran last.

    """

    def __init__(self, module: torch.nn.Module, states: Sequence[tuple[Guess, ...]] = ()) -> None:
        self._module = module
        self._every = list(states) or [()]
        self.states: tuple[Guess, ...] = ()

    def __call__(self, guesses: Sequence[Guess]) -> str:
        """Why it does not run; empty where it does."""
        first = ""
        for states in self._every:
            every = (*guesses, *states)
            problem = problem_of(self._module, every, 2)
            if not problem or not problem_of(self._module, every, 1):
                self.states = states
                return ""
            first = first or problem
        return first
