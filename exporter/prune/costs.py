"""What each layer costs, in multiplications, and what it will cost without some units. Numbers only, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Costs", "Counts", "LayerCost", "Outline"]

Counts = Mapping[str, int]
"""Name of a group to how many of its units are gone."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer.

    Attributes:
        name: Its path.
        macs: Multiplications with a weight, for one sample, with all units there.
        weights: How many weights it has.
        axes: For each axis of its weight that units lie on, group to the share of the axis that one unit is.

    """

    name: str
    macs: float
    weights: int
    axes: tuple[Mapping[str, float], ...] = ()

    def left(self, counts: Counts, block: int = 1, widths: Mapping[str, int] | None = None) -> float:
        """The share of it that is left.

        Args:
            counts: Units that are gone, by group.
            block: Channels on an axis are filled up to a multiple of it, to no more than there were.
            widths: Channels in each unit, by group; one where it is not said.

        """
        share = 1.0
        for axis in self.axes:
            left = max(1.0 - sum(each * counts.get(group, 0) for group, each in axis.items()), 0.0)
            if block > 1 and axis:
                group, each = next(iter(axis.items()))
                channels = (widths or {}).get(group, 1) / each
                left = min(math.ceil(round(left * channels / block, 6)) * block / channels, 1.0)
            share *= left
        return share


@dataclass(frozen=True, kw_only=True)
class Costs:
    """All layers that multiply by weights, in the order in which they ran."""

    layers: tuple[LayerCost, ...]

    def macs(self, counts: Counts) -> float:
        """Multiplications for one sample."""
        return sum(layer.macs * layer.left(counts) for layer in self.layers)

    def weights(self, counts: Counts) -> float:
        """Weights of these layers."""
        return sum(layer.weights * layer.left(counts) for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a choice of units needs to know of a group.

    Attributes:
        name: Of the group.
        kind: As in `Group`.
        units: How many there are.
        width: Channels in each.
        scores: Of each unit; the lowest go first.

    """

    name: str
    kind: str
    units: int
    width: int = 1
    scores: tuple[float, ...] = field(default=())
