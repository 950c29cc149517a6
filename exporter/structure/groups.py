"""What can be removed from a network: groups of channels, neurons or attention heads that depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["DependencyGroups", "Group", "Kind", "Removed", "Slice", "slices_by_tensor"]


class Kind(StrEnum):
    """What a unit of a group is."""

    CHANNELS = "channels"
    """Of convolutions, and of what shares their axis."""
    NEURONS = "neurons"
    """Of fully connected and recurrent layers."""
    HEADS = "heads"
    """Of attention."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Where the units of a group lie in one tensor.

    Attributes:
        module: Path of the layer.
        tensor: Name of its parameter or buffer.
        axis: Along which the units lie.
        indices: int64 [k], along the axis.
        units: int64 [k], the unit that each index belongs to.
        incoming: The layer reads the units: with zeros here, nothing of them arrives.

    """

    module: str
    tensor: str
    axis: int
    indices: torch.Tensor
    units: torch.Tensor
    incoming: bool = False

    @property
    def name(self) -> str:
        """The tensor, as a state dict calls it."""
        return f"{self.module}.{self.tensor}" if self.module else self.tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Units that can be removed one by one, each from every tensor that holds a part of it.

    Attributes:
        name: Path of the layer that makes the units.
        kind: What a unit is.
        units: How many there are.
        width: Channels or neurons in a unit.
        slices: Where they lie.
        sizes: Attributes that count units, which `forward` of the user reads: path of the module and attribute to how
            much of it is one unit. What layers of torch say of themselves follows from their tensors.
        mixes: A normalization takes its mean over the units, so that removing one changes what the others become.

    """

    name: str
    kind: Kind
    units: int
    width: int = 1
    slices: tuple[Slice, ...]
    sizes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    mixes: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the layers that hold a part of the units."""
        return tuple(dict.fromkeys(one.module for one in self.slices))


@dataclass(frozen=True, kw_only=True)
class DependencyGroups:
    """The groups of units that can be removed, and what stays.

    Attributes:
        groups: Each was tried: removing units gives what silencing them gives.
        left: Path of a layer to why its units stay.

    """

    groups: tuple[Group, ...]
    left: Mapping[str, str]


Removed = Mapping[str, Sequence[int]]
"""Name of a group to the units that go."""


def slices_by_tensor(groups: Sequence[Group], removed: Removed) -> Iterator[tuple[Slice, torch.Tensor]]:
    """Each slice of a group that loses units, with the indices that go (int64, ascending)."""
    import torch

    for group in groups:
        gone = torch.tensor(sorted(removed.get(group.name, ())), dtype=torch.int64)
        if not len(gone):
            continue
        for one in group.slices:
            yield one, one.indices[torch.isin(one.units, gone)].sort().values
