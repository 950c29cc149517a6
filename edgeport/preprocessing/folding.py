"""What stays outside of the graph and what goes into it, and the values that come out of either."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from edgeport.contracts import Preprocessing, TensorSpec
from edgeport.preprocessing.images import affine

__all__ = ["inside_of", "outside_of", "value_range"]


def outside_of(spec: TensorSpec) -> TensorSpec:
    """The input that devices feed: where preprocessing is folded, uint8 before scale, mean, std and layout.

    An input that folds nothing is returned as it is.
    """
    declared = spec.preprocessing
    if not isinstance(declared, Preprocessing) or not declared.fold:
        return spec
    sizes = dict(zip(declared.layout, spec.shape, strict=True))
    return replace(
        spec,
        dtype="uint8",
        shape=tuple(sizes[axis] for axis in declared.fold),
        value_range=(0.0, 255.0),
        preprocessing=replace(declared, scale=1.0, mean=(), std=(), layout=declared.fold, fold=""),
    )


def inside_of(preprocessing: Preprocessing) -> Preprocessing:
    """What the graph does to the images [N, H, W, C] that `outside_of` describes."""
    return Preprocessing(
        scale=preprocessing.scale, mean=preprocessing.mean, std=preprocessing.std, layout=preprocessing.layout
    )


def value_range(preprocessing: Preprocessing) -> tuple[float, float]:
    """Smallest and largest value that images of uint8 become, in the very arithmetic that prepares them."""
    factor, offset = affine(asdict(preprocessing))
    ends = np.array([[0.0], [255.0]], np.float32)
    ends = ends if factor is None else ends * factor
    ends = ends if offset is None else ends + offset
    return float(ends.min()), float(ends.max())
