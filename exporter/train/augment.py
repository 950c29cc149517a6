"""Images, changed at random, whole batches at once; drawn from PyTorch's global generator, so that it is repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgeport.errors import ContractError, SamplesError

__all__ = ["CropAndFlip"]


@dataclass(frozen=True, kw_only=True)
class CropAndFlip:
    """A shift by some pixels, with zeros where nothing is, and a mirror image half of the time.

    As for CIFAR in Lee et al., "Deeply-Supervised Nets" (2015), section 3.2. Other feeds than images stay as they are.

    Attributes:
        padding: Largest shift in pixels.
        flip: Mirror images too; not where left and right mean something, as for digits.

    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ContractError(asked="shift images", found=f"a shift of {self.padding} pixels", fix="give 0 or more")

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The feeds; images are those of [N, C, H, W].

        Raises:
            SamplesError: There is no image among them.

        """
        images = [name for name, one in feeds.items() if one.ndim == 4]
        if not images:
            shapes = ", ".join(f"{name} {list(one.shape)}" for name, one in feeds.items())
            raise SamplesError(
                asked="shift and mirror images", found=f"feeds {shapes}", fix="give images [N, C, H, W], or do without"
            )
        return {name: self._changed(one) if name in images else one for name, one in feeds.items()}

    def _changed(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        pad = self.padding
        padded = functional.pad(images, (pad, pad, pad, pad))
        tops, lefts = (torch.randint(0, 2 * pad + 1, (count,)).to(images.device) for _ in range(2))
        rows = tops[:, None] + torch.arange(height, device=images.device)
        columns = lefts[:, None] + torch.arange(width, device=images.device)
        if self.flip:
            mirrored = (torch.rand(count) < 0.5).to(images.device)
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        which = torch.arange(count, device=images.device)[:, None, None, None]
        channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
        return padded[which, channels, rows[:, None, :, None], columns[:, None, None, :]]
