"""What a teacher remembers of its data: the statistics in its BatchNorm layers, and how far a batch is from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeport.exporter.batch_norm import layers_with_statistics

__all__ = ["BatchNormMatch"]


class BatchNormMatch(nn.Module):
    """How far means and variances of what enters each BatchNorm layer are from those that the layer keeps.

    Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion" (CVPR 2020), equation 4: per
    layer, the length of the difference of the means and that of the difference of the variances. With `carry`, the
    batch's statistics are mixed with those of the batches before it, so that all of them together come near, and none
    needs to (Fang et al., "Up to 100x Faster Data-Free Knowledge Distillation", AAAI 2022).

    Its buffers are what is carried; the teacher is no part of it, and is not changed.

    Args:
        teacher: In evaluation mode where it is watched.
        carry: Weight of the batches before, 0..1.

    """

    def __init__(self, teacher: nn.Module, carry: float = 0.0) -> None:
        super().__init__()
        # A tuple: what is in a list or an attribute of its own would be registered as a part.
        self._layers = tuple(layers_with_statistics(teacher))
        self._carry = carry
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}
        self.batches: Tensor
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        for index, layer in enumerate(self._layers):
            for name in ("mean", "variance"):
                self.register_buffer(f"{name}_{index}", torch.zeros_like(_kept(layer)[0]))

    @property
    def layers(self) -> int:
        """How many there are; with none, the distance is 0."""
        return len(self._layers)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """One call of the teacher inside of it counts for `distance` and `remember`."""
        self._seen = {}
        handles = [layer.register_forward_pre_hook(self._look(index)) for index, layer in enumerate(self._layers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def distance(self) -> Tensor:
        """Of the call that was watched, with gradients: the sum over layers, []."""
        device = next((mean.device for mean, _ in self._seen.values()), self.batches.device)
        found = [torch.zeros((), device=device)]
        # Where nothing is carried, the buffers are not looked at: nobody needs to move them where the teacher is.
        carried = self._carry if self._carry and int(self.batches) else 0.0
        for index, seen in self._seen.items():
            mean, variance = self._mixed(index, seen, carried) if carried else seen
            kept_mean, kept_variance = _kept(self._layers[index])
            found.append((mean - kept_mean).norm() + (variance - kept_variance).norm())
        return torch.stack(found).sum()

    def _mixed(self, index: int, seen: tuple[Tensor, Tensor], carried: float) -> tuple[Tensor, Tensor]:
        """A layer's statistics with those of the batches before."""
        before = self.get_buffer(f"mean_{index}"), self.get_buffer(f"variance_{index}")
        return torch.lerp(seen[0], before[0], carried), torch.lerp(seen[1], before[1], carried)

    def remember(self) -> None:
        """Takes the watched call's statistics into what is carried."""
        carried = self._carry if int(self.batches) else 0.0
        for index, (mean, variance) in self._seen.items():
            self.get_buffer(f"mean_{index}").lerp_(mean.detach(), 1.0 - carried)
            self.get_buffer(f"variance_{index}").lerp_(variance.detach(), 1.0 - carried)
        self.batches += 1

    def _look(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            del layer
            entering = arguments[0].float().transpose(0, 1).flatten(1)  # [channels, values]
            self._seen[index] = (entering.mean(dim=1), entering.var(dim=1, unbiased=False))

        return look


def _kept(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        raise TypeError(layer)
    return mean, variance
