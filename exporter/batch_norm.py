"""BatchNorm layers of a network, whose statistics tell of the data that it has seen."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["layers_with_statistics"]


def layers_with_statistics(module: nn.Module) -> list[_BatchNorm]:
    """Its BatchNorm layers that keep a mean and a variance, in the module's own order."""
    return [one for one in module.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
