"""Which images of CIFAR-10 criteria look at, and which ones judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.pruning.cifar import images_of
from edgeport.contracts import Array

__all__ = ["Images", "drawn", "judged"]

_TRAINING = 50_000
_HELD = 5000
"""So many training images, at random, are for choosing hyperparameters, and are not drawn."""

_SPLIT = 2024
"""Seed of that: the files are sorted by class."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """float32 [N, 3, 32, 32] and their classes, int64 [N]."""

    images: Array
    labels: Array


def drawn(count: int, seed: int, *, network: str = "resnet20") -> Images:
    """Training images for criteria, without those that are held back."""
    free = np.random.default_rng(_SPLIT).permutation(_TRAINING)[_HELD:]
    return _of("train", np.random.default_rng(seed).permutation(free)[:count], network)


def judged(part: str, count: int, *, network: str = "resnet20") -> Images:
    """What accuracy is of: images of the dev file, or ("train") those of the training data that are held back."""
    every = np.random.default_rng(_SPLIT).permutation(_TRAINING if part == "train" else _HELD)
    return _of("train" if part == "train" else "test_dev", every[: min(count, _HELD)], network)


def _of(name: str, rows: Array, network: str) -> Images:
    images, labels = images_of(name, rows, network=network)
    return Images(images=images, labels=labels)
