"""Images moved, cropped and mirrored at random, each in its own way; other samples as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Views"]

_PIXELS = 4


@dataclass(frozen=True, kw_only=True)
class Views:
    """How.

    Attributes:
        shift: Largest way, as a part of height and width, in whole pixels; zeros come in at the edges, as in the usual
            training on CIFAR (He et al., "Deep Residual Learning", 2016, section 4.2).
        mirror: Left and right may change places; not for digits or text.
        least: Smallest part of the area that is cut out and enlarged; 1 for the whole, at its own size.

    """

    shift: float = 0.125
    mirror: bool = False
    least: float = 1.0

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W], with gradients; draws from PyTorch's global generator. Other tensors come back."""
        if images.ndim != _PIXELS or not (self.shift or self.mirror or self.least < 1):
            return images
        count, _, height, width = images.shape
        share = self.least + (1.0 - self.least) * torch.rand(count)
        size = share.sqrt()
        room = 1.0 - size
        across = room * (2.0 * torch.rand(count) - 1.0) + _steps(count, width, self.shift)
        down = room * (2.0 * torch.rand(count) - 1.0) + _steps(count, height, self.shift)
        sign = 1.0 - 2.0 * torch.randint(2, (count,)) if self.mirror else torch.ones(count)
        rows = torch.stack([size * sign, torch.zeros(count), across, torch.zeros(count), size, down], dim=1)
        grid = functional.affine_grid(
            rows.reshape(count, 2, 3).to(images.device), list(images.shape), align_corners=False
        )
        seen: Tensor = functional.grid_sample(images.float(), grid, align_corners=False)
        return seen


def _steps(count: int, pixels: int, part: float) -> Tensor:
    """Whole pixels, in units of half the width: what an affine grid counts in."""
    most = math.floor(part * pixels)
    return torch.randint(-most, most + 1, (count,)) * 2.0 / pixels
