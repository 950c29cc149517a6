"""What each layer costs, in multiplications, counted by one run, and what it will cost without some units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.structure.groups import Group
from edgeport.exporter.structure.layers import is_convolution

if TYPE_CHECKING:
    import torch

__all__ = ["Costs", "GroupSpec", "LayerCost", "RemovedUnits", "count_costs"]

RemovedUnits = Mapping[str, int]
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

    def left(self, counts: RemovedUnits, block: int = 1, widths: Mapping[str, int] | None = None) -> float:
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

    def macs(self, counts: RemovedUnits) -> float:
        """Multiplications for one sample."""
        return sum(layer.macs * layer.left(counts) for layer in self.layers)

    def weights(self, counts: RemovedUnits) -> float:
        """Weights of these layers."""
        return sum(layer.weights * layer.left(counts) for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
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


def count_costs(module: torch.nn.Module, samples: Samples, groups: Sequence[Group] = ()) -> Costs:
    """The multiplications of convolutions, fully connected and recurrent layers; attention's own products do not count.

    Args:
        module: In evaluation mode.
        samples: The first one is run.
        groups: Of this module.

    """
    import torch
    from torch import nn

    places: dict[str, float] = {}
    layers = {
        path: layer
        for path, layer in module.named_modules()
        if is_convolution(layer) or isinstance(layer, nn.Linear | nn.RNNBase)
    }

    def hook(path: str) -> Any:
        def see(layer: Any, arguments: Any, result: Any) -> None:
            output = result[0] if isinstance(result, tuple) else result
            if isinstance(layer, nn.RNNBase):
                per = output.shape[-1]
            elif isinstance(layer, nn.Linear):
                per = layer.out_features
            elif layer.transposed:
                output, per = arguments[0], layer.in_channels
            else:
                per = layer.out_channels
            places[path] = places.get(path, 0.0) + output.numel() / per

        return see

    handles = [layer.register_forward_hook(hook(path)) for path, layer in layers.items()]
    try:
        with torch.no_grad():
            samples.outputs(module, slice(0, 1))
    finally:
        for handle in handles:
            handle.remove()
    axes = _axes(module, groups)
    found = []
    for path, count in places.items():
        weights = {name: one for name, one in layers[path].named_parameters(recurse=False) if one.ndim > 1}
        for name, weight in weights.items():
            numel = weight.numel()
            label = path if len(weights) == 1 else f"{path}.{name}"
            found.append(LayerCost(name=label, macs=count * numel, weights=numel, axes=axes.get((path, name), ())))
    return Costs(layers=tuple(found))


def _axes(module: torch.nn.Module, groups: Sequence[Group]) -> dict[tuple[str, str], tuple[Mapping[str, float], ...]]:
    """Of each weight, for each axis that units lie on: group to the share of the axis that a unit is."""
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for group in groups:
        for one in group.slices:
            shape = getattr(module.get_submodule(one.module), one.tensor).shape
            if len(shape) > 1:
                axis = found.setdefault((one.module, one.tensor), {}).setdefault(one.axis, {})
                axis[group.name] = axis.get(group.name, 0.0) + len(one.indices) / group.units / shape[one.axis]
    return {name: tuple(axes.values()) for name, axes in found.items()}
