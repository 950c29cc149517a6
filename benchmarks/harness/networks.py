"""Residual networks for CIFAR-10 with weights of the folder that EDGEPORT_ZOO names: factories for an export."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.harness.zoo import zoo

Network = TypeVar("Network", bound=nn.Module)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015), which changes size as its network says."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


class Padded(nn.Module):
    """Every second pixel, and channels of zeros: the shortcut without weights (option A of He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, C, H, W] to [N, C + 2 * channels, H / 2, W / 2]."""
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


class ResNet18(nn.Module):
    """Eight blocks of 64 to 512 channels, images float32 [N, 3, 32, 32] to scores [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
        layers = []
        for inputs, outputs in pairwise(widths):
            stride = 1 if inputs == outputs else 2
            shortcut: nn.Module = nn.Identity()
            if inputs != outputs:
                shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            layers.append(Block(inputs, outputs, stride, shortcut))
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(512, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the classes."""
        inner = self.layers(torch.relu(self.bn1(self.conv1(images))))
        scores: torch.Tensor = self.linear(inner.mean(dim=(2, 3)))
        return scores


class ResNet20(nn.Module):
    """Nine blocks of 16 to 64 channels, images float32 [N, 3, 32, 32] to scores [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _three(16, 16)
        self.layer2 = _three(16, 32)
        self.layer3 = _three(32, 64)
        self.linear = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of the classes."""
        inner = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(images))))))
        scores: torch.Tensor = self.linear(inner.mean(dim=(2, 3)))
        return scores


def _three(inputs: int, outputs: int) -> nn.Sequential:
    if inputs == outputs:
        first = Block(inputs, outputs, 1, nn.Identity())
    else:
        first = Block(inputs, outputs, 2, Padded((outputs - inputs) // 2))
    return nn.Sequential(first, *(Block(outputs, outputs, 1, nn.Identity()) for _ in range(2)))


def resnet18() -> nn.Module:
    """CIFAR ResNet-18, 11.2 million weights."""
    return with_weights(ResNet18(), "cifar_resnet18")


def resnet20() -> nn.Module:
    """CIFAR ResNet-20, 0.27 million weights."""
    return with_weights(ResNet20(), "cifar_resnet20")


def with_weights(network: Network, name: str) -> Network:
    """The network with the weights of `models/NAME.safetensors`."""
    weights = load_file(zoo(f"models/{name}.safetensors"))
    network.load_state_dict({key: one.float() if one.is_floating_point() else one for key, one in weights.items()})
    return network
