"""Accuracy of a module, and outputs of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pruning.data import Images
from edgeport.contracts import Array

if TYPE_CHECKING:
    import torch

__all__ = ["outputs_of_file", "top1_of"]

_AT_ONCE = 250
_OF_A_MODULE = 50
"""Images that stay in the caches of a processor, layer by layer."""


def top1_of(network: torch.nn.Module, images: Images) -> float:
    """Accuracy, 0..1, of a classifier in evaluation mode."""
    import torch

    right = 0
    with torch.no_grad():
        for start in range(0, len(images.labels), _OF_A_MODULE):
            rows = slice(start, start + _OF_A_MODULE)
            given = torch.from_numpy(images.images[rows]).contiguous(memory_format=torch.channels_last)
            told = network(given).argmax(dim=1).numpy()
            right += int((told == images.labels[rows]).sum())
    return right / len(images.labels)


def outputs_of_file(file: Path, images: Array) -> Array:
    """The first output of an ONNX file for the images."""
    from edgeport.backends.onnxruntime.reference import open_reference

    with open_reference(file) as run:
        parts = [run({"images": images[start : start + _AT_ONCE]}) for start in range(0, len(images), _AT_ONCE)]
    return np.concatenate([next(iter(part.values())) for part in parts])
