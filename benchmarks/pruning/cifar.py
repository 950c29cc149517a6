"""CIFAR-10 out of the folder that EDGEPORT_ZOO names, as ResNet-20 was trained on it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgeport.contracts import Array

__all__ = ["images_of", "missing"]

_FILES = ("cifar10_train.npz", "cifar10_test_dev.npz", "models/cifar_resnet20.safetensors")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def missing() -> list[str]:
    """Files that are not there; all of them without the folder."""
    folder = os.environ.get("EDGEPORT_ZOO")
    return [name for name in _FILES if folder is None or not Path(folder, name).is_file()]


def images_of(name: str, rows: Array | None = None) -> tuple[Array, Array]:
    """Images float32 [N, 3, 32, 32] and labels int64 [N]; those of `rows`, or all.

    Args:
        name: "train" or "test_dev".
        rows: Indices.

    """
    from benchmarks.quantization.prepare import pictures

    packed = np.load(Path(os.environ["EDGEPORT_ZOO"]) / f"cifar10_{name}.npz")
    chosen = np.arange(len(packed["labels"])) if rows is None else rows
    images = np.empty((len(chosen), 3, 32, 32), np.float32)
    for index, image in enumerate(pictures(packed, chosen.tolist())):
        images[index] = (((image / 255 - np.array(_MEAN)) / np.array(_DEVIATION)).astype(np.float32)).transpose(2, 0, 1)
    return images, packed["labels"][chosen].astype(np.int64)
