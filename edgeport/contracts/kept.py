"""How much of a plan's integer nodes a runtime really ran as integers."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.contracts.backend import Placement
from edgeport.contracts.plan import QuantizationPlan

__all__ = ["Kept", "kept_nodes", "kept_share"]

_INTEGER = "int8"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of the nodes that a plan runs as integers; their ONNX names, in the plan's order.

    Attributes:
        kept: Part of a kernel that ran in int8.
        lost: Part of kernels that ran in float alone.
        unseen: Part of no kernel that computes: they only move numbers, or the runtime does not tell.

    """

    kept: tuple[str, ...]
    lost: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the nodes that were seen, the part that was kept, 0..1.

        1 where nothing was planned as integer, 0 where nothing of what was planned was seen.
        """
        seen = len(self.kept) + len(self.lost)
        if seen:
            return len(self.kept) / seen
        return 0.0 if self.unseen else 1.0


def kept_nodes(plan: QuantizationPlan, placement: Placement) -> Kept:
    """Finds each integer node of the plan among the origins of what ran.

    A node whose work several kernels share (a product, then its bias) is kept where one of them is integer.
    """
    ran: dict[str, set[str]] = {}
    for kernel in placement.nodes:
        if kernel.precision:
            for name in kernel.origin:
                ran.setdefault(name, set()).add(kernel.precision)
    planned = [name for name, precision in plan.nodes.items() if not precision.is_float]
    return Kept(
        kept=tuple(name for name in planned if _INTEGER in ran.get(name, ())),
        lost=tuple(name for name in planned if name in ran and _INTEGER not in ran[name]),
        unseen=tuple(name for name in planned if name not in ran),
    )


def kept_share(plan: QuantizationPlan, placement: Placement) -> float:
    """`kept_nodes(plan, placement).share`."""
    return kept_nodes(plan, placement).share
