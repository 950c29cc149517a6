"""The weights that single entries of are pruned, and sums over units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from edgeport.exporter.prune.graph.groups import Group, Slice
from edgeport.exporter.prune.graph.layers import is_convolution

__all__ = ["incoming_of", "unit_sums", "weights_of"]


def weights_of(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Weights of convolutions, fully connected and recurrent layers, by their names in the state dict."""
    found: dict[str, nn.Parameter] = {}
    for path, layer in module.named_modules():
        if is_convolution(layer) or isinstance(layer, nn.Linear | nn.RNNBase | nn.MultiheadAttention):
            for name, parameter in layer.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    found[f"{path}.{name}" if path else name] = parameter
    return found


def unit_sums(one: Slice, values: torch.Tensor, units: int) -> torch.Tensor:
    """Sum of a tensor's entries that belong to each unit, float64 [units].

    `values` has the shape of the slice's tensor.
    """
    indices, owners = one.indices.to(values.device), one.units.to(values.device)
    each = values.movedim(one.axis, 0).flatten(1).sum(dim=1) if values.ndim > 1 else values
    sums = torch.zeros(units, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, owners, each[indices].double()).cpu()


def incoming_of(groups: Iterable[Group]) -> Iterator[tuple[Group, Slice]]:
    """The slices where units are read, of all groups: no entry of a weight is in two of them."""
    for group in groups:
        for one in group.slices:
            if one.incoming:
                yield group, one
