"""The model at other sizes of its free axes, in PyTorch: what the exported file is compared with there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeport.contracts import Array, Arrays
from edgeport.errors import DynamicShapeError
from edgeport.exporter.explain import user_line
from edgeport.exporter.input_binding import bind_feeds, run_eagerly
from edgeport.exporter.options import ExportOptions
from edgeport.ragged import resized

if TYPE_CHECKING:
    import torch

__all__ = ["AtSize", "at_other_sizes"]

_MOST_TIMES = 64
"""Larger than the example by more than this is not cheap: then the largest size is what is verified."""


@dataclass(frozen=True, kw_only=True)
class AtSize:
    """One more run.

    Attributes:
        axis: Whose size is another.
        size: Of it, without its factor.
        feeds: Arrays by input name.
        outputs: PyTorch's, by output name.

    """

    axis: str
    size: int
    feeds: Arrays
    outputs: Mapping[str, Array]


def at_other_sizes(module: torch.nn.Module, example: Arrays, options: ExportOptions) -> Iterator[AtSize]:
    """Runs the model at two more sizes of each free axis but the batch: the ends of its range, where that is declared.

    Args:
        module: In evaluation mode.
        example: What was exported with.
        options: Of the export.

    Raises:
        DynamicShapeError: The model itself fails at the end of a declared range.

    """
    binding = bind_feeds(module, example, options.parameters, options.constants)
    for axis, places in _places(options).items():
        name, index, factor = places[0]
        now = example[name].shape[index] // factor
        for size in _sizes(now, options.axis_ranges.get(axis)):
            feeds = dict(example)
            for name, index, factor in places:
                feeds[name] = resized(feeds[name], index, factor * size)
            try:
                outputs = run_eagerly(module, binding, feeds)
            except Exception as error:
                if axis not in options.axis_ranges:
                    continue  # nobody said that this size works
                line = user_line(error)
                low, high = options.axis_ranges[axis]
                raise DynamicShapeError(
                    asked=f"run {type(module).__name__} with {axis} {size}, since its range is {low} to {high}",
                    found=f"{type(error).__name__}{f' at {line}' if line else ''}: {str(error).strip()[:300]}",
                    fix=f"declare a range that PyTorch itself takes ([axes.{axis}] range in a recipe)",
                ) from error
            yield AtSize(axis=axis, size=size, feeds=feeds, outputs=outputs)


def _places(options: ExportOptions) -> dict[str, list[tuple[str, int, int]]]:
    """Axis to where it stands: input, index, factor."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for name, axes in options.dynamic_axes.items():
        for index, label in axes.items():
            factor, _, root = label.rpartition("*")
            if root != "batch":
                found.setdefault(root, []).append((name, index, int(factor) if factor else 1))
    return found


def _sizes(now: int, declared: tuple[int, int] | None) -> list[int]:
    low, high = declared or (max(1, now // 2), now + 1)
    return [size for size in dict.fromkeys((low, min(high, _MOST_TIMES * now))) if size != now]
