"""Which units go until a goal is reached. Numbers only, no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgeport.errors import PruningError
from edgeport.exporter.prune.cost_model import GroupSpec, RemovedUnits

__all__ = ["Scope", "choose_counts", "lowest"]


class Scope(StrEnum):
    """What competes with what."""

    GLOBAL = "global"
    """All units of the network, by their scores."""
    LAYER = "layer"
    """The units of each group among themselves; all groups lose the same share."""


@dataclass
class _Queue:
    """A group's units in the order in which they would go, in steps that the target likes."""

    group_spec: GroupSpec
    step: int
    least: int
    gone: int = 0

    @property
    def next(self) -> int:
        """Units of the next step, so that what is left is a multiple of the step; 0 where no more may go."""
        left = self.group_spec.units - self.gone
        size = left % self.step or self.step
        return size if left - size >= self.least else 0


def choose_counts(  # noqa: PLR0913 (a choice has that many sides)
    group_specs: Sequence[GroupSpec],
    reached: Callable[[RemovedUnits], bool],
    *,
    scope: Scope = Scope.GLOBAL,
    round_to: int = 1,
    least: float = 0.1,
    units: Mapping[str, int] | None = None,
    saving: Callable[[RemovedUnits, RemovedUnits], float] | None = None,
    far: bool = False,
) -> dict[str, int]:
    """How many units each group loses, those of the lowest scores first, step by step until the goal is reached.

    Args:
        group_specs: Groups with their scores.
        reached: Whether the network without so many units meets the goal.
        scope: What competes.
        round_to: What is left of a group is a multiple of this many channels. Groups that have no more than that stay
            whole.
        least: Share of a group's units that must stay.
        units: Of each group, how many that is a share of; those that it has by default.
        saving: What going from the first counts to the second saves; then scores are weighed against it.
        far: Where the goal can't be reached, go as far as may be gone.

    Raises:
        PruningError: The goal can't be reached.

    """
    of = {one.name: one.units for one in group_specs} | dict(units or {})
    queues = {
        one.name: _Queue(
            group_spec=one,
            step=_step(one, round_to),
            least=max(_step(one, round_to), math.ceil(least * of[one.name]), 1),
        )
        for one in group_specs
    }
    order = {one.name: sorted(one.scores) for one in group_specs}
    counts = {one.name: 0 for one in group_specs}
    while not reached(counts):
        best, best_price = None, math.inf
        for name, queue in queues.items():
            size = queue.next
            if not size:
                continue
            price = _price(queue, order[name], size, scope)
            if saving is not None and scope is Scope.GLOBAL:
                saved = saving(counts, counts | {name: queue.gone + size})
                price = price * size / saved if saved > 0 else math.inf
            if price < best_price or best is None:
                best, best_price = queue, price
        if best is None and far:
            break
        if best is None:
            raise PruningError(
                asked="remove units until the goal is reached",
                found=f"that it is not, with all gone that may go from {len(queues)} groups",
                fix="ask for less, round to fewer channels, or leave less of each layer (least)",
            )
        best.gone += best.next
        counts[best.group_spec.name] = best.gone
    return counts


def lowest(group_spec: GroupSpec, count: int) -> list[int]:
    """The units of the lowest scores, in ascending order; of equal ones the last go first."""
    order = sorted(range(group_spec.units), key=lambda unit: (group_spec.scores[unit], -unit))
    return sorted(order[:count])


def _price(queue: _Queue, scores: Sequence[float], size: int, scope: Scope) -> float:
    """Mean score of the units that would go; for a scope of layers the share that would then be gone."""
    if scope is Scope.LAYER:
        return (queue.gone + size) / queue.group_spec.units
    return sum(scores[queue.gone : queue.gone + size]) / size


def _step(group_spec: GroupSpec, round_to: int) -> int:
    return round_to // math.gcd(round_to, group_spec.width)
