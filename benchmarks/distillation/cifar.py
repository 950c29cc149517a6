"""CIFAR-10 out of the folder that EDGEPORT_ZOO names: who learns from which images, and who is judged on which."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeport.contracts import Array

__all__ = ["FILES", "Cifar", "Images"]

FILES = (
    "cifar10_train.npz",
    "cifar10_test_dev.npz",
    "models/cifar_wrn40_2.safetensors",
    "models/cifar_wrn16_1.safetensors",
)
_HELD = 5000
"""So many training images, at random, are for choosing hyperparameters, and nobody learns from them."""

_SPLIT = 2024


@dataclass(frozen=True, kw_only=True)
class Images:
    """uint8 [N, 3, 32, 32] and their classes, int64 [N]."""

    images: Array
    labels: Array

    def floats(self) -> Array:
        """float32, 0..1."""
        return self.images.astype(np.float32) / 255

    def rows(self, chosen: Array) -> Images:
        """Some of them."""
        return Images(images=self.images[chosen], labels=self.labels[chosen])


class Cifar:
    """The images, decoded once.

    Args:
        folder: Gets them.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def training(self) -> Images:
        """45,000 that are learned from, in an order of their own."""
        return self._all("train").rows(self._order()[_HELD:])

    def judged(self, part: str, count: int) -> Images:
        """What accuracy is of: "train", training images that nobody learns from, or "dev", the dev file."""
        if part == "train":
            return self._all("train").rows(self._order()[:_HELD][:count])
        every = self._all("test_dev")
        return every.rows(np.random.default_rng(_SPLIT).permutation(len(every.labels))[:count])

    def _order(self) -> Array:
        return np.random.default_rng(_SPLIT).permutation(len(self._all("train").labels))

    def _all(self, name: str) -> Images:
        path = self._folder / f"cifar10_{name}.npz"
        if not path.exists():
            self._decode(name, path)
        with np.load(path) as arrays:
            return Images(images=arrays["images"], labels=arrays["labels"])

    def _decode(self, name: str, path: Path) -> None:
        from benchmarks.quantization.prepare import pictures

        packed = np.load(Path(os.environ["EDGEPORT_ZOO"]) / f"cifar10_{name}.npz")
        loaded = {"data": packed["data"], "offsets": packed["offsets"]}
        labels = packed["labels"].astype(np.int64)
        images = np.stack(list(pictures(loaded, range(len(labels))))).transpose(0, 3, 1, 2)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, images=images, labels=labels)
        part.replace(path)
