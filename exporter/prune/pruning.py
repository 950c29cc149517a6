"""Prunes a network from end to end: finds, scores, chooses, removes; and again, with training between the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from edgeport.errors import PruningError
from edgeport.exporter.prune.allocation import choose_counts, lowest
from edgeport.exporter.prune.blocks import find_blocks, remove_blocks
from edgeport.exporter.prune.bn_recalibration import recalibrate
from edgeport.exporter.prune.config import Blocks, OneShot, Pattern, Schedule, Structure, Units, Unstructured
from edgeport.exporter.prune.cost_model import Costs, GroupSpec, RemovedUnits, count_costs
from edgeport.exporter.prune.graph.dependency_groups import find_groups
from edgeport.exporter.prune.graph.groups import Group, Kind
from edgeport.exporter.prune.graph.surgery import remove
from edgeport.exporter.prune.importance.criteria import Criterion, describe
from edgeport.exporter.prune.importance.scorers import scorer_of
from edgeport.exporter.prune.masks import (
    apply_masks,
    pattern_masks,
    settle_masks,
    share_of_zeros,
    unstructured_masks,
)
from edgeport.exporter.prune.samples import Samples

__all__ = ["FineTune", "ModuleAnalysis", "Pruning", "look", "prune", "take", "take_counts"]

_SHOWN = 3
"""Layers whose reason to stay is told."""
FineTune = Callable[["torch.nn.Module", int], None]
"""Trains the module in place after a step (counted from 0); zeros that masks hold stay zero."""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What became of a network.

    Attributes:
        by: The criterion.
        removed: Name of a group to how many units are gone, and of how many.
        blocks: Paths of the blocks that are gone.
        left: Path of a layer that could not be pruned to the reason.
        weights: Parameters before and after.
        macs: Multiplications for one sample, before and after.
        zeros: Share of the weights of layers that is zero.

    """

    by: str
    removed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[int, int] = (0, 0)
    macs: tuple[float, float] = (0.0, 0.0)
    zeros: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ModuleAnalysis:
    """A network as a choice of units sees it.

    Attributes:
        groups: What can be removed.
        group_specs: The same with scores, for those that have some.
        costs: What layers cost.
        left: Why others stay.

    """

    groups: tuple[Group, ...]
    group_specs: tuple[GroupSpec, ...]
    costs: Costs
    left: Mapping[str, str]


def look(
    module: torch.nn.Module, criterion: Criterion, samples: Samples, kinds: Sequence[Kind] = tuple(Kind)
) -> ModuleAnalysis:
    """Finds the units of these kinds, and scores them.

    Args:
        module: In evaluation mode; it is not changed.
        criterion: What goes first.
        samples: Two or more.
        kinds: Which units may go.

    Raises:
        PruningError: There is nothing that can be removed, or scored.

    """
    found = find_groups(module, samples)
    groups = [group for group in found.groups if group.kind in kinds]
    if not groups:
        told = "; ".join(f"{path}: {reason}" for path, reason in list(found.left.items())[:_SHOWN])
        told += f"; and {len(found.left) - _SHOWN} more" if len(found.left) > _SHOWN else ""
        raise PruningError(
            asked=f"remove {', '.join(kinds)} of {type(module).__name__}",
            found="none that can go" + (f" ({told})" if told else ""),
            fix="allow other kinds of units, or prune single weights (unstructured)",
            details={"left": dict(found.left)},
        )
    scores = scorer_of(criterion).units(module, samples, groups)
    group_specs = tuple(
        GroupSpec(
            name=group.name,
            kind=str(group.kind),
            units=group.units,
            width=group.width,
            scores=tuple(scores[group.name].tolist()),
        )
        for group in groups
        if group.name in scores
    )
    unscored = {
        group.name: f"{describe(criterion)} has no score for it" for group in groups if group.name not in scores
    }
    costs = count_costs(module, samples, groups)
    return ModuleAnalysis(groups=tuple(groups), group_specs=group_specs, costs=costs, left=dict(found.left) | unscored)


def take(module: torch.nn.Module, analysis: ModuleAnalysis, counts: RemovedUnits) -> None:
    """Removes so many units of each group, those of the lowest scores, in place."""
    removed = {one.name: lowest(one, counts.get(one.name, 0)) for one in analysis.group_specs}
    remove(module, analysis.groups, removed)


def take_counts(
    module: torch.nn.Module, samples: Samples, group_specs: Sequence[GroupSpec], counts: RemovedUnits, *, by: str = ""
) -> Pruning:
    """Removes so many units of each group, in place, by scores that are known already.

    Args:
        module: As it was scored.
        samples: Two or more.
        group_specs: Of this module's groups.
        counts: Group to how many units go.
        by: The criterion, for the result.

    Raises:
        PruningError: A group of these group_specs is not found any more.

    """
    found = find_groups(module, samples)
    known = {group.name: group.units for group in found.groups}
    for one in group_specs:
        if counts.get(one.name) and known.get(one.name) != one.units:
            raise PruningError(
                asked=f"remove {counts[one.name]} of {one.units} {one.kind} of {one.name}",
                found=f"{known.get(one.name, 'none')} there",
                fix="score this very model anew",
            )
    before, macs = _parameters(module), count_costs(module, samples).macs({})
    removed = {one.name: lowest(one, counts.get(one.name, 0)) for one in group_specs}
    remove(module, found.groups, removed)
    return Pruning(
        by=by,
        removed={one.name: (counts[one.name], one.units) for one in group_specs if counts.get(one.name)},
        left=found.left,
        weights=(before, _parameters(module)),
        macs=(macs, count_costs(module, samples).macs({})),
        zeros=share_of_zeros(module),
    )


def prune(  # noqa: PLR0913 (what, by what, with what, when)
    module: torch.nn.Module,
    structure: Structure,
    criterion: Criterion,
    samples: Samples,
    *,
    schedule: Schedule = OneShot(),  # noqa: B008 (frozen)
    recalibrated: bool = False,
    fine_tune: FineTune | None = None,
) -> Pruning:
    """Prunes a module in place.

    Args:
        module: Is set to evaluation mode.
        structure: What goes, and how much of it.
        criterion: What goes first.
        samples: What the network is looked at with; hundreds for criteria that need samples, else two.
        schedule: In how many steps.
        recalibrated: Take BatchNorm's statistics anew over the samples after each step; for samples of real data.
        fine_tune: Called after each step.

    Returns:
        What became of it.

    Raises:
        PruningError: Nothing can go, or not so much; or the criterion has no answer for this structure.

    """
    module.eval()
    if recalibrated:
        fine_tune = _recalibrating(samples, fine_tune)
    before = _parameters(module)
    macs = count_costs(module, samples).macs({})
    if isinstance(structure, Blocks):
        result = _prune_blocks(module, structure, samples, fine_tune)
    elif isinstance(structure, Units):
        result = _prune_units(module, structure, criterion, samples, schedule, fine_tune)
    else:
        result = _prune_weights(module, structure, criterion, samples, schedule, fine_tune)
    return replace(
        result,
        weights=(before, _parameters(module)),
        macs=(macs, count_costs(module, samples).macs({})),
        zeros=share_of_zeros(module),
    )


def _recalibrating(samples: Samples, fine_tune: FineTune | None) -> FineTune:
    """Recalibrates before it trains."""

    def tune(module: torch.nn.Module, step: int) -> None:
        recalibrate(module, samples)
        if fine_tune is not None:
            fine_tune(module, step)

    return tune


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _tune(module: torch.nn.Module, fine_tune: FineTune | None, step: int) -> None:
    if fine_tune is not None:
        fine_tune(module, step)
        module.eval()


def _prune_units(
    module: torch.nn.Module,
    structure: Units,
    criterion: Criterion,
    samples: Samples,
    schedule: Schedule,
    fine_tune: FineTune | None,
) -> Pruning:
    whole = 0.0
    units: dict[str, int] = {}
    gone: dict[str, int] = {}
    left: Mapping[str, str] = {}
    told: dict[str, str] = {}
    for step, share in enumerate(schedule.shares()):
        analysis = look(module, criterion, samples, structure.kinds)
        whole = whole or analysis.costs.macs({})
        for one in analysis.group_specs:
            name = told.setdefault(one.name, one.name)
            if name in units and units[name] - gone[name] != one.units:  # a multiplier went: what is left is depthwise
                name = told[one.name] = f"{one.name} from step {step + 1}"
            units.setdefault(name, one.units)
            gone.setdefault(name, 0)
        before = {one.name: units[told[one.name]] for one in analysis.group_specs}
        counts = _chosen(structure, analysis, whole * (1.0 - structure.macs * share), before)
        take(module, analysis, counts)
        for one in analysis.group_specs:
            gone[told[one.name]] += counts[one.name]
        left = left or analysis.left
        _tune(module, fine_tune, step)
    removed = {name: (count, units[name]) for name, count in gone.items() if count}
    return Pruning(by=describe(criterion), removed=removed, left=left)


def _chosen(structure: Units, analysis: ModuleAnalysis, goal: float, before: Mapping[str, int]) -> dict[str, int]:
    """Counts with which the network has no more multiplications than the goal.

    Args:
        structure: What is asked.
        analysis: The network as it is.
        goal: Multiplications.
        before: Units of each group before the first step, of which a share stays.

    """
    costs = analysis.costs
    return choose_counts(
        analysis.group_specs,
        lambda counts: costs.macs(counts) <= goal,
        scope=structure.scope,
        round_to=structure.round_to,
        least=structure.least,
        units=before,
        saving=(lambda one, other: costs.macs(one) - costs.macs(other)) if structure.per_cost else None,
    )


def _prune_weights(
    module: torch.nn.Module,
    structure: Unstructured | Pattern,
    criterion: Criterion,
    samples: Samples,
    schedule: Schedule,
    fine_tune: FineTune | None,
) -> Pruning:
    scorer = scorer_of(criterion)
    left: tuple[str, ...] = ()
    shares = schedule.shares() if isinstance(structure, Unstructured) else (1.0,)
    masks: dict[str, torch.Tensor] = {}
    for step, share in enumerate(shares):
        scores = scorer.weights(module, samples)
        for name, mask in masks.items():  # what is gone stays gone, whatever its score
            scores[name] = scores[name].masked_fill(~mask, -1.0)
        if isinstance(structure, Pattern):
            masks, left = pattern_masks(scores, structure.keep, structure.of)
        else:
            masks = unstructured_masks(scores, structure.amount * share, structure.scope)
        hook = apply_masks(module, masks)
        _tune(module, fine_tune, step)
        settle_masks(module)
        hook.remove()
    reason = f"its inputs are no multiple of {structure.of}" if isinstance(structure, Pattern) else ""
    return Pruning(by=describe(criterion), left=dict.fromkeys(left, reason))


def _prune_blocks(module: torch.nn.Module, structure: Blocks, samples: Samples, fine_tune: FineTune | None) -> Pruning:
    gone: list[str] = []
    for step in range(structure.count):  # each removal changes what the blocks behind it see
        found = find_blocks(module, samples)
        first = min(found, key=lambda block: block.influence)
        remove_blocks(module, [first])
        gone.append(first.path)
        _tune(module, fine_tune, step)
    return Pruning(by="influence", blocks=tuple(gone))
