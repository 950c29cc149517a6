"""What is right of a classifier's answers, and outputs of modules and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness.cifar import Images
from edgeport.backends.onnxruntime.reference import open_reference
from edgeport.contracts import Array

_AT_ONCE = 50
"""Images that stay in the caches of a processor, layer by layer."""


def outputs_of(module: torch.nn.Module, feeds: Mapping[str, Array]) -> Array:
    """Of a module in evaluation mode, for all samples, on the device where it is."""
    count, device, parts = len(next(iter(feeds.values()))), next(module.parameters()).device, []
    with torch.no_grad():
        for start in range(0, count, _AT_ONCE):
            inputs = [torch.from_numpy(array[start : start + _AT_ONCE]) for array in feeds.values()]
            inputs = [one.contiguous(memory_format=torch.channels_last) if one.ndim == 4 else one for one in inputs]
            parts.append(module(*(one.to(device) for one in inputs)).cpu().numpy())
    return np.concatenate(parts)


def right_of(network: torch.nn.Module, images: Images) -> Array:
    """Whether a classifier in evaluation mode is right, bool [N]."""
    right: Array = outputs_of(network, {"images": images.images}).argmax(axis=1) == images.labels
    return right


def top1_of(network: torch.nn.Module, images: Images) -> float:
    """Accuracy, 0..1, of such a classifier."""
    return float(right_of(network, images).mean())


def outputs_of_file(file: Path, images: Array) -> Array:
    """The first output of an ONNX file for the images."""
    with open_reference(file) as run:
        parts = [run({"images": images[start : start + 250]}) for start in range(0, len(images), 250)]
    return np.concatenate([next(iter(part.values())) for part in parts])
