"""A network that answers while others learn: nothing of it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["answering"]


@contextmanager
def answering(network: torch.nn.Module, *, through: bool = False) -> Iterator[None]:
    """While it is entered, the network is in evaluation mode and nothing of it learns; then all of it is as it was.

    Args:
        network: Is changed while this is entered only.
        through: Gradients go through it, back into what it is fed; else there are none.

    """
    learning = [module for module in network.modules() if module.training]
    wanting = [one for one in network.parameters() if one.requires_grad] if through else []
    for module in learning:
        module.training = False
    for parameter in wanting:
        parameter.requires_grad = False
    try:
        with torch.set_grad_enabled(through):
            yield
    finally:
        for module in learning:
            module.training = True
        for parameter in wanting:
            parameter.requires_grad = True
