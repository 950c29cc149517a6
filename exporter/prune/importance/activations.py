"""Scores that a unit's activations tell, as the layers see them that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from edgeport.errors import PruningError
from edgeport.exporter.prune.graph.groups import Group, Slice
from edgeport.exporter.prune.graph.layers import is_convolution
from edgeport.exporter.prune.importance.criteria import Entropy, ZeroActivations
from edgeport.exporter.prune.importance.granularity import incoming_of
from edgeport.exporter.prune.samples import Samples

__all__ = ["ActivationScorer", "entropies"]


@dataclass(frozen=True)
class ActivationScorer:
    """See `Entropy` and `ZeroActivations`."""

    criterion: Entropy | ZeroActivations

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """Not defined.

        Raises:
            PruningError: Always.

        """
        del module, samples
        raise PruningError(
            asked="score single weights by activations",
            found="that activations are of channels",
            fix='prune channels, or take "taylor"',
        )

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Mean over the layers that read a unit, and over its channels.

        Raises:
            PruningError: No samples; or zeros are asked for, and there are none.

        """
        if samples is None:
            raise PruningError(asked="score by activations", found="no samples", fix="give some")
        reading = [(group, one) for group, one in incoming_of(groups) if one.tensor in ("weight", "weight_ih_l0")]
        if isinstance(self.criterion, Entropy):
            means = _watch(module, samples, {one.module for _, one in reading}, _means)
            each = {path: entropies(values, self.criterion.bins) for path, values in means.items()}
            if self.criterion.first == "highest":
                each = {path: values.max() - values for path, values in each.items()}
        else:
            shares = _watch(module, samples, {one.module for _, one in reading}, _shares_not_zero)
            each = {path: values.mean(dim=0) for path, values in shares.items()}
            if each and all(bool((values == 1).all()) for values in each.values()):
                raise PruningError(
                    asked="score channels by zeros among their activations",
                    found="no zero anywhere: this network has no Relu",
                    fix='take "entropy" or "l2"',
                )
        sums = {group.name: torch.zeros(group.units, dtype=torch.float64) for group in groups}
        counts = {group.name: torch.zeros(group.units, dtype=torch.float64) for group in groups}
        for group, one in reading:
            if one.module in each:
                values, indices, units = _places(one, each[one.module], module)
                sums[group.name].index_add_(0, units, values[indices])
                counts[group.name].index_add_(0, units, torch.ones(len(units), dtype=torch.float64))
        return {name: sums[name] / counts[name] for name in sums if bool((counts[name] > 0).all())}


def _places(one: Slice, values: torch.Tensor, module: torch.nn.Module) -> tuple[Any, Any, Any]:
    """A grouped convolution's weight holds one part of what it reads; its input holds all of them."""
    held = getattr(module.get_submodule(one.module), one.tensor).shape[one.axis]
    parts = max(len(values) // held, 1)
    indices = torch.cat([one.indices + part * held for part in range(parts)])
    return values.cpu(), indices, one.units.repeat(parts)


def _watch(
    module: torch.nn.Module, samples: Samples, paths: set[str], of: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """`of` each layer's input [rows, channels, places], over all samples: path to [samples, channels]."""
    found: dict[str, list[torch.Tensor]] = {}
    with (
        _hooked(module, paths, lambda path, entering: found.setdefault(path, []).append(of(entering))),
        torch.no_grad(),
    ):
        for rows in samples.batches():
            samples.outputs(module, rows)
    return {path: torch.cat(parts).double().cpu() for path, parts in found.items()}


@contextmanager
def _hooked(module: torch.nn.Module, paths: set[str], look: Callable[[str, torch.Tensor], object]) -> Iterator[None]:
    def hook(layer_path: str, layer: torch.nn.Module) -> Callable[..., None]:
        last = not is_convolution(layer)  # channels are the last axis

        def see(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
            value = arguments[0].detach()
            value = value.movedim(-1, 1) if last and value.ndim > 2 else value
            look(layer_path, value.flatten(2) if value.ndim > 2 else value.unsqueeze(-1))

        return see

    handles = [
        layer.register_forward_pre_hook(hook(path, layer))
        for path in sorted(paths)
        if (layer := module.get_submodule(path)) is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _means(entering: torch.Tensor) -> torch.Tensor:
    return entering.float().mean(dim=2)


def _shares_not_zero(entering: torch.Tensor) -> torch.Tensor:
    return (entering != 0).float().mean(dim=2)


def entropies(values: torch.Tensor, bins: int) -> torch.Tensor:
    """Entropy in bits of each column of [samples, channels], in bins that all columns share."""
    low, high = values.min(), values.max()
    places = ((values - low) / (high - low).clamp_min(1e-30) * bins).long().clamp(0, bins - 1)
    counts = torch.nn.functional.one_hot(places, bins).double().sum(dim=0)  # [channels, bins]
    shares = counts / len(values)
    return -torch.where(shares > 0, shares * shares.clamp_min(1e-300).log2(), torch.zeros_like(shares)).sum(dim=1)
