"""Samples drawn from the range that an input declares, for a model that comes without data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeport.contracts import Array, TensorSpec
from edgeport.errors import SamplesError

__all__ = ["draw"]

_FLOATS = ("float16", "float32", "float64")


def draw(inputs: Sequence[TensorSpec], count: int, seed: int) -> dict[str, Array]:
    """`count` samples of each input, evenly spread between two bounds that each sample draws for itself.

    With the same bounds for all, a layer that averages would see hardly anything but their middle. Real data are not
    evenly spread: ranges from these samples are a guess, and accuracy has to be judged on real ones.

    Args:
        inputs: With a value range each; axis 0 is the batch, all other axes have a size.
        count: Number of samples.
        seed: Of the generator; equal arguments give equal samples.

    Raises:
        SamplesError: An input without a range or with an axis of unknown size.

    """
    generator = np.random.default_rng(seed)
    return {spec.name: _drawn(spec, count, generator) for spec in inputs}


def _drawn(spec: TensorSpec, count: int, generator: np.random.Generator) -> Array:
    asked = f"draw samples for input {spec.name!r}"
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    if spec.value_range is None:
        raise SamplesError(
            asked=asked,
            found="no declared range",
            fix=f"give range = [0.0, 1.0] (or what it is) in [inputs.{spec.name}]",
            details={"problem": "range"},
        )
    if not spec.shape or len(sizes) != len(spec.shape) - 1:
        raise SamplesError(
            asked=asked,
            found=f"shape {list(spec.shape)}, where more than the batch has no size",
            fix=f"give every axis but the first a size in [inputs.{spec.name}]",
            details={"problem": "shape"},
        )
    low, high = spec.value_range
    if spec.dtype not in _FLOATS:
        return generator.integers(int(low), int(high), (count, *sizes), endpoint=True).astype(spec.dtype)
    bounds = np.sort(generator.uniform(low, high, (2, count, *[1] * len(sizes))), axis=0)
    values: Array = (bounds[0] + (bounds[1] - bounds[0]) * generator.random((count, *sizes))).astype(spec.dtype)
    return values
