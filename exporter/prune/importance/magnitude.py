"""Scores that the weights alone tell: how large they are, how many are nearly zero, and BatchNorm's factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgeport.errors import PruningError
from edgeport.exporter.prune.graph.groups import Group, Slice
from edgeport.exporter.prune.graph.layers import is_batchnorm
from edgeport.exporter.prune.importance.criteria import BatchNormScale, Magnitude, NearZero, Random
from edgeport.exporter.prune.importance.granularity import unit_sums, weights_of
from edgeport.exporter.prune.samples import Samples

__all__ = ["BatchNormScorer", "MagnitudeScorer", "NearZeroScorer", "RandomScorer", "batchnorm_penalty"]


@dataclass(frozen=True)
class MagnitudeScorer:
    """See `Magnitude`."""

    criterion: Magnitude

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """The absolute value of each: among single weights, both norms order alike."""
        del samples
        return {name: weight.detach().abs() for name, weight in weights_of(module).items()}

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Mean over the group's layers of the sum of |w| or w² in a unit, in units of the group's mean."""
        del samples
        norm = self.criterion.norm
        return {group.name: _mean(_unit_sums(module, group, lambda held: held.abs() ** norm)) for group in groups}


@dataclass(frozen=True)
class NearZeroScorer:
    """See `NearZero`."""

    criterion: NearZero

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """The absolute value in units of the layer's threshold; what is nearly zero has less than 1."""
        del samples
        return {name: weight.detach().abs() / self._limit(weight) for name, weight in weights_of(module).items()}

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Mean over the group's layers of how many weights of a unit are not nearly zero, in units of the mean."""
        del samples
        return {
            group.name: _mean(_unit_sums(module, group, lambda held: (held.abs() >= self._limit(held)).float()))
            for group in groups
        }

    def _limit(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight.detach().square().mean().sqrt() * self.criterion.threshold).clamp_min(1e-30)


def _unit_sums(
    module: torch.nn.Module, group: Group, of: Callable[[torch.Tensor], torch.Tensor], *, scales_only: bool = False
) -> list[torch.Tensor]:
    """Of each of the group's BatchNorm factors, and of its weights unless only the factors are of interest."""
    held = [(one, getattr(module.get_submodule(one.module), one.tensor).detach()) for one in group.slices]
    return [
        unit_sums(one, of(values), group.units)
        for one, values in held
        if _is_scale(module, one) or (values.ndim > 1 and not scales_only)
    ]


def _mean(sums: Sequence[torch.Tensor]) -> torch.Tensor:
    """In units of the group's own mean."""
    score = torch.stack(list(sums)).mean(dim=0)
    return score / score.mean().clamp_min(1e-30)


@dataclass(frozen=True)
class BatchNormScorer:
    """See `BatchNormScale`."""

    criterion: BatchNormScale

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """Not defined.

        Raises:
            PruningError: Always.

        """
        del module, samples
        raise PruningError(
            asked="score single weights by BatchNorm's factors",
            found="that they are of channels",
            fix='prune channels, or take "l1"',
        )

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Mean over the group's BatchNorms of |factor|, in units of the group's mean; groups without one have no score.

        Raises:
            PruningError: No group has a BatchNorm with factors.

        """
        del samples
        sums = {group.name: _unit_sums(module, group, torch.abs, scales_only=True) for group in groups}
        found = {name: _mean(parts) for name, parts in sums.items() if parts}
        if not found:
            raise PruningError(
                asked="score channels by BatchNorm's factors",
                found=f"{len(groups)} groups, none with a BatchNorm that has factors",
                fix='take another criterion, such as "l2"',
            )
        return found


def _is_scale(module: torch.nn.Module, one: Slice) -> bool:
    layer = module.get_submodule(one.module)
    return one.tensor == "weight" and is_batchnorm(layer)


def batchnorm_penalty(module: torch.nn.Module, strength: float = 1e-4) -> torch.Tensor:
    """What a training loop adds to its loss so that BatchNorm's factors of needless channels go to zero.

    The L1 penalty of Liu et al. (2017), section 3; 1e-4 is theirs for CIFAR.

    Args:
        module: Whose BatchNorms count.
        strength: Factor of the sum.

    Returns:
        A single number that has a gradient.

    Raises:
        PruningError: There is no BatchNorm with factors.

    """
    layers: list[Any] = [layer for layer in module.modules() if is_batchnorm(layer)]
    scales = [layer.weight.abs().sum() for layer in layers if layer.weight is not None]
    if not scales:
        raise PruningError(
            asked="penalize BatchNorm's factors", found="no BatchNorm that has factors", fix="leave the penalty out"
        )
    return strength * torch.stack(scales).sum()


@dataclass(frozen=True)
class RandomScorer:
    """See `Random`."""

    criterion: Random

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """Even numbers from 0 to 1."""
        del samples
        generator = torch.Generator().manual_seed(self.criterion.seed)
        return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights_of(module).items()}

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Even numbers from 0 to 1."""
        del module, samples
        generator = torch.Generator().manual_seed(self.criterion.seed)
        return {group.name: torch.rand(group.units, generator=generator, dtype=torch.float64) for group in groups}
