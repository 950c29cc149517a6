"""WideResNets for CIFAR-10, with weights of the folder that EDGEPORT_ZOO names, or at random."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.harness.cifar import SCALES
from benchmarks.harness.networks import with_weights
from benchmarks.harness.training import seeded


class Block(nn.Module):
    """Two convolutions behind their BatchNorm (Zagoruyko and Komodakis, "Wide Residual Networks", 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        active = torch.relu(self.bn1(x))
        inner: torch.Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """Images float32 [N, 3, 32, 32], 0..1, to scores [N, 10]; they are normalised inside.

    Args:
        depth: 6 n + 4 layers.
        width: Times 16, 32 and 64 channels.

    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        each = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        blocks, before = [], 16
        for stage, channels in enumerate((16 * width, 32 * width, 64 * width)):
            for index in range(each):
                blocks.append(Block(before, channels, 2 if stage and not index else 1))
                before = channels
        self.layers = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(before)
        self.linear = nn.Linear(before, 10)
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        for name, values in zip(("mean", "deviation"), SCALES["resnet18"], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the classes."""
        inner = self.layers(self.conv1((images - self.mean) / self.deviation))
        scores: torch.Tensor = self.linear(torch.relu(self.bn(inner)).mean(dim=(2, 3)))
        return scores


def teacher() -> WideResNet:
    """WideResNet-40-2, trained; 2.24 million weights."""
    return with_weights(WideResNet(40, 2), "cifar_wrn40_2").eval()


def yardstick() -> WideResNet:
    """WideResNet-16-1, trained on all the data; 0.175 million weights."""
    return with_weights(WideResNet(16, 1), "cifar_wrn16_1").eval()


def student(seed: int) -> WideResNet:
    """WideResNet-16-1 with weights at random, as He et al. (2015) draw them."""
    with seeded(seed):
        made = WideResNet(16, 1)
        for module in made.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return made


def in_lines(network: WideResNet) -> WideResNet:
    """The same network, which computes with the channels of a pixel side by side: twice as fast in bf16."""
    for parameter in network.parameters():
        if parameter.ndim == 4:  # images' weights
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
