"""CIFAR-10 out of the folder that EDGEPORT_ZOO names, as each network was trained on it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgeport.contracts import Array

__all__ = ["FILES", "images_of"]

FILES = ("cifar10_train.npz", "cifar10_test_dev.npz", "models/cifar_resnet20.safetensors")
_SCALES = {
    "resnet20": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "resnet18": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
}
"""Means and deviations of the three colours, of 0..1."""


def images_of(name: str, rows: Array | None = None, *, network: str = "resnet20") -> tuple[Array, Array]:
    """Images float32 [N, 3, 32, 32] and labels int64 [N]; those of `rows`, or all.

    Args:
        name: "train" or "test_dev".
        rows: Indices.
        network: Whose scale of colours they are in.

    """
    from benchmarks.quantization.prepare import pictures

    packed = np.load(Path(os.environ["EDGEPORT_ZOO"]) / f"cifar10_{name}.npz")
    chosen = np.arange(len(packed["labels"])) if rows is None else rows
    mean, deviation = (np.array(one) for one in _SCALES[network])
    images = np.empty((len(chosen), 3, 32, 32), np.float32)
    for index, image in enumerate(pictures(packed, chosen.tolist())):
        images[index] = ((image / 255 - mean) / deviation).astype(np.float32).transpose(2, 0, 1)
    return images, packed["labels"][chosen].astype(np.int64)
