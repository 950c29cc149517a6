"""A moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

__all__ = ["WeightAverage", "ramped"]


def ramped(decay: float, steps: int) -> float:
    """The decay of the step behind `steps` others: (1 + n) / (10 + n) at most, so that the first weights are forgotten
    soon, as `tf.train.ExponentialMovingAverage` and timm's `ModelEmaV3` do it.
    """
    return min(decay, (1 + steps) / (10 + steps))


class WeightAverage:
    """The exponential moving average of a module's parameters (Polyak and Juditsky, 1992); its buffers as they are.

    The decay begins small and grows to what is asked for (`ramped`).

    Args:
        module: What is averaged.
        decay: 0..1.

    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._module = module
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    def update(self) -> None:
        """Takes in the weights as they are now."""
        decay = ramped(self.decay, self.steps)
        self.steps += 1
        now = [value.detach() for _, value in self._module.named_parameters()]
        with torch.no_grad():
            torch._foreach_lerp_(list(self.values.values()), now, 1 - decay)

    def load(self, values: Mapping[str, torch.Tensor], steps: int) -> None:
        """Goes on from what was saved."""
        self.steps = steps
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While it is entered, the module has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, value in self._module.named_parameters():
            value.data, self.values[name] = self.values[name], value.data
