"""A small convolutional network for handwritten digits: 24.8 million multiply-adds per image."""

import torch
from torch import nn


def block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input is carried and added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = block(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Shapes: features and result float32 [N, channels, H, W]."""
        return torch.relu(features + self.second(self.first(features)))


class DigitsCnn(nn.Module):
    """Grey images of 32x32 pixels to the scores of ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(1, 32, stride=2)
        self.down = block(32, 64, stride=2)
        self.wide = block(64, 128)
        self.residual = Residual(128)
        self.classifier = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Shapes: images float32 [N, 1, 32, 32], 0..1; result float32 [N, 10], logits."""
        features = self.residual(self.wide(self.down(self.stem(images))))
        scores: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return scores
