"""What networks with fewer units lose on samples, before any training."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import lowest
from edgeport.exporter.prune.bn_recalibration import recalibrate
from edgeport.exporter.prune.cost_model import GroupSpec, RemovedUnits
from edgeport.exporter.prune.graph.dependency_groups import find_groups
from edgeport.exporter.prune.graph.surgery import remove
from edgeport.exporter.prune.samples import Samples

__all__ = ["losses_of"]


def losses_of(
    module: torch.nn.Module,
    samples: Samples,
    group_specs: Sequence[GroupSpec],
    several: Sequence[RemovedUnits],
    *,
    judged_by: Samples,
    recalibrated: bool,
) -> list[float]:
    """One for each network: its mean loss on the labels, or how far its outputs are from the module's.

    The latter is the squared difference over the squares of the module's outputs. It is taken where there are no
    labels, or where no loss suits them.

    Args:
        module: In evaluation mode; it is not changed.
        samples: Those that it was scored by.
        group_specs: Of this module's groups.
        several: For each network, group to how many units go.
        judged_by: What losses are of; others than it was scored by, where there are any, for those flatter what goes by
            their scores.
        recalibrated: With BatchNorm's statistics taken anew over `samples`, as the network will have them.

    Raises:
        PruningError: As `find_groups`.

    """
    groups = find_groups(module, samples).groups
    whole = None if _has_loss(module, judged_by) else _outputs(module, judged_by)
    found = []
    for counts in several:
        trial = copy.deepcopy(module)
        remove(trial, groups, {one.name: lowest(one, counts.get(one.name, 0)) for one in group_specs})
        if recalibrated:
            recalibrate(trial, samples)
        found.append(_mean_loss(trial, judged_by) if whole is None else _distance(_outputs(trial, judged_by), whole))
    return found


def _has_loss(module: torch.nn.Module, samples: Samples) -> bool:
    if samples.target is None:
        return False
    try:
        with torch.no_grad():
            next(samples.first(1).losses(module))
    except PruningError:
        return False
    return True


def _mean_loss(module: torch.nn.Module, samples: Samples) -> float:
    with torch.no_grad():
        sizes = [rows.stop - rows.start for rows in samples.batches()]
        losses = [float(loss) for loss in samples.losses(module)]
    total: float = sum(size * loss for size, loss in zip(sizes, losses, strict=True))
    return total / samples.count


def _outputs(module: torch.nn.Module, samples: Samples) -> list[torch.Tensor]:
    with torch.no_grad():
        return [
            value.double().flatten()
            for rows in samples.batches()
            for value in samples.outputs(module, rows).values()
            if value.is_floating_point()
        ]


def _distance(found: Sequence[torch.Tensor], whole: Sequence[torch.Tensor]) -> float:
    apart = sum(float((one - other).square().sum()) for one, other in zip(found, whole, strict=True))
    of = sum(float(one.square().sum()) for one in whole)
    return apart / of if of else apart
