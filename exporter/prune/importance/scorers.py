"""The scorer of each criterion, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from edgeport.exporter.prune.graph.groups import Group
from edgeport.exporter.prune.importance.activations import ActivationScorer
from edgeport.exporter.prune.importance.criteria import (
    BatchNormScale,
    Criterion,
    Entropy,
    Fisher,
    HessianDiagonal,
    Magnitude,
    NearZero,
    Random,
    Taylor,
    ZeroActivations,
)
from edgeport.exporter.prune.importance.gradients import GradientScorer, HessianScorer
from edgeport.exporter.prune.importance.magnitude import BatchNormScorer, MagnitudeScorer, NearZeroScorer, RandomScorer
from edgeport.exporter.prune.samples import Samples

__all__ = ["Scorer", "scorer_of"]


class Scorer(Protocol):
    """Tells what goes first: the lowest scores. Scores of all layers can be compared with each other."""

    def weights(self, module: torch.nn.Module, samples: Samples | None) -> dict[str, torch.Tensor]:
        """A score for each entry of each weight, by its name in the state dict.

        Raises:
            PruningError: The criterion is not one of single weights, or needs samples.

        """
        ...

    def units(
        self, module: torch.nn.Module, samples: Samples | None, groups: Sequence[Group]
    ) -> dict[str, torch.Tensor]:
        """Scores of the units by group, float64 [units]; groups that the criterion says nothing of are left out.

        Raises:
            PruningError: The criterion says nothing of any group, or needs samples.

        """
        ...


_SCORERS: Mapping[type, Callable[[Any], Scorer]] = {
    Magnitude: MagnitudeScorer,
    NearZero: NearZeroScorer,
    BatchNormScale: BatchNormScorer,
    ZeroActivations: ActivationScorer,
    Entropy: ActivationScorer,
    Taylor: GradientScorer,
    Fisher: GradientScorer,
    HessianDiagonal: HessianScorer,
    Random: RandomScorer,
}


def scorer_of(criterion: Criterion) -> Scorer:
    """What computes a criterion."""
    return _SCORERS[type(criterion)](criterion)
