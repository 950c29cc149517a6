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
        weights = [one for name, one in layers[path].named_parameters(recurse=False) if one.ndim > 1]
        numel = sum(weight.numel() for weight in weights)
        found.append(LayerCost(name=path, macs=count * numel, weights=numel, axes=axes.get(path, ())))
    return Costs(layers=tuple(found))


def _axes(module: torch.nn.Module, groups: Sequence[Group]) -> dict[str, tuple[Mapping[str, float], ...]]:
    """Of each layer's weight; an LSTM counts by the one that reads its input."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for group in groups:
        for one in group.slices:
            if (
                one.tensor in ("weight", "weight_ih_l0")
                and getattr(module.get_submodule(one.module), one.tensor).ndim > 1
            ):
                size = getattr(module.get_submodule(one.module), one.tensor).shape[one.axis]
                axis = found.setdefault(one.module, {}).setdefault(one.axis, {})
                axis[group.name] = axis.get(group.name, 0.0) + len(one.indices) / group.units / size
    return {path: tuple(axes.values()) for path, axes in found.items()}
