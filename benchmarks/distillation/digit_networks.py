"""scikit-learn's digits, a network that has learned them, and a fourth of its width that has not."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import nn

from benchmarks.harness.training import seeded
from edgeport.contracts import Array

LEARNED = 1000
"""Digits that the teacher has learned from; all others judge."""


def network(width: int = 16) -> nn.Module:
    """Images float32 [N, 1, 8, 8], 0..1, to scores [N, 10]."""

    def block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(1, width), *block(width, 2 * width, 2), *block(2 * width, 4 * width, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


class Digits:
    """All 1,797, in an order of their own.

    Attributes:
        images: float32 [N, 1, 8, 8], 0..1.
        labels: int64 [N].

    """

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        self.images: Array = digits.images[order].astype(np.float32)[:, None] / 16
        self.labels: Array = digits.target[order]

    @cached_property
    def teacher(self) -> nn.Module:
        """Made once, in seconds."""
        with seeded(0):
            return _trained(network(), self.images[:LEARNED], self.labels[:LEARNED])

    def student(self, seed: int) -> nn.Module:
        """With weights at random."""
        with seeded(100 + seed):
            return network(4)

    def right(self, module: nn.Module, rows: slice = slice(LEARNED, None)) -> float:
        """Part of right classes, 0..1; of the digits that nobody learned from, if no others are named."""
        with torch.no_grad():
            scores = module.eval()(torch.from_numpy(self.images[rows]))
        return float((scores.argmax(dim=1).numpy() == self.labels[rows]).mean())


def _trained(teacher: nn.Module, images: Array, labels: Array) -> nn.Module:
    """As the page "I have no data" has it."""
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    inputs, wanted = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(15):
        for rows in torch.randperm(len(images)).split(50):  # type: ignore[no-untyped-call] # torch leaves it untyped
            loss = nn.functional.cross_entropy(teacher(inputs[rows]), wanted[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimizer.step()
    return teacher.eval()
