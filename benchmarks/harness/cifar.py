"""CIFAR-10 out of the folder that EDGEPORT_ZOO names: who learns from which images, and who is judged on which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.harness.zoo import pictures, zoo
from edgeport.contracts import Array

FILES = ("cifar10_train.npz", "cifar10_test_dev.npz")
SCALES = {
    "resnet20": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "resnet18": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
}
"""Means and deviations of the three colours, of 0..1, that each network was trained with."""

TRAINING = 50_000
HELD = 5000
"""So many training images, at random, are for choosing hyperparameters, and nobody learns from them."""

_SPLIT = 2024
"""Seed of that: the files are sorted by class."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """uint8, or float32 where they are scaled, [N, 3, 32, 32], and their classes, int64 [N]."""

    images: Array
    labels: Array

    def floats(self) -> Array:
        """float32, 0..1."""
        return self.images.astype(np.float32) / 255

    def scaled(self, network: str) -> Images:
        """In the colours of a network, float32."""
        mean, deviation = (np.array(one)[:, None, None] for one in SCALES[network])
        images = np.empty(self.images.shape, np.float32)
        for index, image in enumerate(self.images):
            images[index] = (image / 255 - mean) / deviation
        return Images(images=images, labels=self.labels)

    def rows(self, chosen: Array | slice) -> Images:
        """Some of them."""
        return Images(images=self.images[chosen], labels=self.labels[chosen])


@lru_cache
def _packed(name: str) -> dict[str, Array]:
    with np.load(zoo(f"cifar10_{name}.npz")) as packed:
        return dict(packed)


def decoded(name: str, rows: Sequence[int] | Array) -> Images:
    """Images of "train" or "test_dev"."""
    packed = _packed(name)
    images = np.stack(list(pictures(packed, rows))).transpose(0, 3, 1, 2)
    return Images(images=images, labels=packed["labels"][rows].astype(np.int64))


def _order() -> Array:
    return np.random.default_rng(_SPLIT).permutation(TRAINING)


def training(count: int = TRAINING - HELD) -> Images:
    """Images that are learned from, the first of 45,000 in an order of their own."""
    return decoded("train", _order()[HELD:][:count])


def drawn(count: int, seed: int) -> Images:
    """Of these, so many at random."""
    return decoded("train", np.random.default_rng(seed).permutation(_order()[HELD:])[:count])


def judged(part: str, count: int) -> Images:
    """What accuracy is of: "train", training images that nobody learns from, or "dev", the dev file."""
    if part == "train":
        return decoded("train", _order()[:HELD][:count])
    return decoded("test_dev", np.random.default_rng(_SPLIT).permutation(HELD)[:count])
