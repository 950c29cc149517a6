"""Counts what each layer of a network costs, by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeport.exporter.prune.costs import Costs, LayerCost
from edgeport.exporter.prune.layers import is_convolution
from edgeport.exporter.prune.samples import Samples
from edgeport.exporter.prune.units import Group

if TYPE_CHECKING:
    import torch

__all__ = ["count_costs"]


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
