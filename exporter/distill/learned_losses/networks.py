"""Small networks that make samples, tell outputs apart, or find the code of something."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgeport.contracts import TensorSpec
from edgeport.errors import SamplesError

__all__ = ["Discriminator", "Generator", "dense", "encoder_of", "generator_of", "sizes_of"]

_SLOPE = 0.2
_SMALLEST = 8
"""Height and width that images grow from, at most."""

_NORMS: Mapping[int, Callable[..., nn.Module]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm1d,
    3: nn.BatchNorm2d,
    4: nn.BatchNorm3d,
}
"""By the axes of a sample."""


def sizes_of(inputs: Sequence[TensorSpec], asked: str) -> tuple[TensorSpec, tuple[int, ...]]:
    """The only input and the shape of one sample of it.

    Raises:
        SamplesError: Several inputs, or one that is not float, whose size is free, or whose range is none.

    """
    if len(inputs) != 1:
        raise SamplesError(
            asked=asked, found=f"{len(inputs)} inputs", fix="take a model with one input, or distil with samples"
        )
    spec = inputs[0]
    sizes = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    if spec.dtype != "float32" or not sizes or len(sizes) != len(spec.shape) - 1 or 0 in sizes:
        raise SamplesError(
            asked=asked,
            found=f"input {spec.name!r}: {spec.dtype} {list(spec.shape)}",
            fix="declare a float32 input of which every axis but the first has a size, or distil with samples",
        )
    low, high = spec.value_range or (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SamplesError(
            asked=asked,
            found=f"input {spec.name!r} with values from {low:g} to {high:g}",
            fix="declare a range of finite numbers, the smaller one first",
        )
    return spec, sizes


def dense(inputs: int, hidden: int, outputs: int, layers: int = 2) -> nn.Sequential:
    """Fully connected, with `layers` hidden layers."""
    widths = [inputs, *[hidden] * layers]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))


class Generator(nn.Module):
    """Random numbers to samples.

    Args:
        body: Codes [N, latent] to numbers [N, *shape].
        latent: Numbers of a code.
        shape: Of a sample.
        value_range: What a sigmoid is stretched to; None for numbers that are scaled to mean 0 and deviation 1 per
            channel, as DAFL's are.

    """

    def __init__(
        self, body: nn.Module, latent: int, shape: tuple[int, ...], value_range: tuple[float, float] | None
    ) -> None:
        super().__init__()
        self.body, self.latent, self.shape, self.value_range = body, latent, shape, value_range
        norm = _NORMS.get(len(shape))
        if value_range is None and norm is None:
            raise SamplesError(
                asked=f"make samples {list(shape)}",
                found="no range of their values, and more axes than a norm over channels has",
                fix="declare the range of the values",
            )
        self.scale = norm(shape[0], affine=False) if value_range is None and norm is not None else nn.Identity()

    def forward(self, codes: Tensor) -> Tensor:
        """Codes float32 [N, latent], standard normal, to samples [N, *shape]."""
        made: Tensor = self.body(codes).reshape(len(codes), *self.shape)
        if self.value_range is None:
            scaled: Tensor = self.scale(made)
            return scaled
        low, high = self.value_range
        return low + (high - low) * torch.sigmoid(made)

    def codes(self, count: int) -> Tensor:
        """So many at random, on the generator's device; of PyTorch's global generator, which is the CPU's."""
        return torch.randn(count, self.latent).to(next(self.parameters()).device)


def generator_of(spec: TensorSpec, shape: tuple[int, ...], *, latent: int, width: int) -> Generator:
    """For images [C, H, W], enlarging convolutions as DCGAN's and DAFL's; for all else, fully connected layers.

    Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks"
    (2016); DAFL (2019), whose upsampling by nearest pixels leaves no checkerboard.
    """
    images = len(shape) == 3
    body: nn.Module = _Growing(shape, latent, width) if images else dense(latent, 4 * width, math.prod(shape))
    return Generator(body, latent, shape, spec.value_range)


class _Growing(nn.Module):
    def __init__(self, shape: tuple[int, ...], latent: int, width: int) -> None:
        super().__init__()
        channels, *size = shape
        doublings = max(2, math.ceil(math.log2(max(size) / _SMALLEST)))
        sizes = [tuple(max(1, math.ceil(one / 2**level)) for one in size) for level in range(doublings, -1, -1)]
        self.first = (2 * width, *sizes[0])
        self.linear = nn.Linear(latent, math.prod(self.first))
        parts: list[nn.Module] = [nn.BatchNorm2d(2 * width)]
        for level, after in enumerate(sizes[1:], start=1):
            out = width if level == doublings else 2 * width
            parts += [
                nn.Upsample(size=after),
                nn.Conv2d(2 * width, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.LeakyReLU(_SLOPE),
            ]
        self.layers = nn.Sequential(*parts, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, codes: Tensor) -> Tensor:
        """[N, latent] to [N, C, H, W]."""
        made: Tensor = self.layers(self.linear(codes).reshape(-1, *self.first))
        return made


def encoder_of(shape: tuple[int, ...], outputs: int, width: int) -> nn.Module:
    """Samples [N, *shape] to numbers [N, outputs]: the generator's shape, the other way round."""
    if len(shape) != 3:
        return nn.Sequential(nn.Flatten(), dense(math.prod(shape), 4 * width, outputs))
    channels, height, breadth = shape
    parts: list[nn.Module] = []
    before, out = channels, width
    while max(height, breadth) > _SMALLEST // 2:
        parts += [nn.Conv2d(before, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(_SLOPE)]
        before, out = out, 2 * width
        height, breadth = math.ceil(height / 2), math.ceil(breadth / 2)
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(before * height * breadth, outputs))


class Discriminator(nn.Module):
    """Outputs, and the input that they belong to, to a score: the teacher's, or the student's.

    It sees the input (Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014), else any output of the
    teacher's would do for any input. Where outputs are classes, it names the class as well (Xu et al., "Training
    Shallow and Thin Networks for Acceleration via Knowledge Distillation with Conditional Adversarial Networks", 2018).

    Args:
        outputs: Numbers of an output.
        condition: Numbers of what is seen of the input; 0 for nothing.
        hidden: Width.
        classes: It names; 0 for none.

    """

    def __init__(self, outputs: int, condition: int, hidden: int, classes: int = 0) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(outputs + condition, hidden),
            nn.LeakyReLU(_SLOPE),
            nn.Dropout(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(_SLOPE),
        )
        self.source = nn.Linear(hidden, 1)
        self.classes = nn.Linear(hidden, classes) if classes else None

    def forward(self, outputs: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs [N, outputs], condition [N, condition]: scores [N] before the sigmoid, and scores [N, classes]."""
        inner = self.trunk(torch.cat([outputs, condition], dim=1))
        return self.source(inner).squeeze(1), None if self.classes is None else self.classes(inner)
