"""Takes units out of a network, so that it is really smaller, or silences them, so that it computes the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgeport.errors import PruningError
from edgeport.exporter.prune.graph.groups import Group, Removed, slices_by_tensor
from edgeport.exporter.prune.graph.layers import refresh

__all__ = ["remove", "silence"]


def remove(module: torch.nn.Module, groups: Sequence[Group], removed: Removed) -> None:
    """Takes the units out of every tensor, in place.

    The groups must have been found in this very module: after a removal their indices are of a network that is no more.

    Raises:
        PruningError: A group would lose all its units.

    """
    for group in groups:
        if len(set(removed.get(group.name, ()))) >= group.units:
            raise PruningError(
                asked=f"remove {group.units} {group.kind} of {group.name}",
                found="that these are all of them",
                fix="leave one or more, or remove the whole block",
            )
    going: dict[tuple[str, str, int], list[torch.Tensor]] = {}
    for one, indices in slices_by_tensor(groups, removed):
        going.setdefault((one.module, one.tensor, one.axis), []).append(indices)
    for (path, name, axis), parts in going.items():
        layer = module.get_submodule(path)
        _shorten(layer, name, axis, torch.cat(parts))
    for path in dict.fromkeys(path for path, _, _ in going):
        refresh(module.get_submodule(path))
    for group in groups:
        for (path, attribute), each in group.sizes.items():
            holder = module.get_submodule(path)
            setattr(holder, attribute, getattr(holder, attribute) - each * len(set(removed.get(group.name, ()))))


def _shorten(layer: torch.nn.Module, name: str, axis: int, indices: torch.Tensor) -> None:
    old = getattr(layer, name)
    keep = torch.ones(old.shape[axis], dtype=torch.bool, device=old.device)
    keep[indices.to(old.device)] = False
    new = old.detach().index_select(axis, keep.nonzero().flatten()).clone()
    if isinstance(old, torch.nn.Parameter):
        setattr(layer, name, torch.nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(layer, name, new)


def silence(module: torch.nn.Module, groups: Sequence[Group], removed: Removed) -> None:
    """Puts zeros where layers read the units, in place: the network then computes what it would without them.

    But for normalizations over them (`Group.mixes`). An LSTM is read by itself: there its own rows count too.
    """
    with torch.no_grad():
        for one, indices in slices_by_tensor(groups, removed):
            if one.incoming:
                held = getattr(module.get_submodule(one.module), one.tensor)
                held.index_fill_(one.axis, indices.to(held.device), 0.0)
