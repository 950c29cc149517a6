"""How much of what a plan asks for a runtime really ran so."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.contracts.backend import NodePlacement, Placement
from edgeport.contracts.plan import QuantizationPlan
from edgeport.options.precision import Precision

__all__ = ["Kept", "is_as_planned", "kept_nodes", "kept_share"]

_INTEGER = "int8"
_FLOAT8 = "fp8"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of the nodes that a plan names; their ONNX names, in the plan's order.

    Attributes:
        kept: Planned as integers, and part of a kernel that ran in int8; where only their weights are planned as
            integers, of one that has these in the planned width.
        lost: Planned so, and part of other kernels alone.
        unseen: Planned so, and part of no kernel that computes: they only move numbers, or the runtime does not tell.
        strayed: Planned in a float precision by name, and seen in other precisions alone.

    """

    kept: tuple[str, ...]
    lost: tuple[str, ...]
    unseen: tuple[str, ...]
    strayed: tuple[str, ...] = ()

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
    """Finds each node that the plan names among the origins of what ran.

    A node whose work several kernels share (a product, then its bias) is kept where one of them is as planned.
    """
    ran: dict[str, list[NodePlacement]] = {}
    for kernel in placement.nodes:
        if kernel.precision or kernel.weights:
            for name in kernel.origin:
                ran.setdefault(name, []).append(kernel)
    planned = [name for name, precision in plan.nodes.items() if not precision.is_float]
    kept = {name for name in planned if any(is_as_planned(plan.nodes[name], kernel) for kernel in ran.get(name, ()))}
    floats = [name for name, precision in plan.nodes.items() if precision.is_float and name in ran]
    return Kept(
        kept=tuple(name for name in planned if name in kept),
        lost=tuple(name for name in planned if name in ran and name not in kept),
        unseen=tuple(name for name in planned if name not in ran),
        strayed=tuple(name for name in floats if all(kernel.precision != plan.nodes[name] for kernel in ran[name])),
    )


def is_as_planned(precision: Precision, kernel: NodePlacement) -> bool:
    """Whether the kernel computes as a node of this precision is to; of integer weights alone, whether it has these."""
    if precision.is_float:
        return kernel.precision == precision
    form = precision.weight_form
    if form is not None:
        return kernel.weights == form.stored
    return kernel.precision == (_FLOAT8 if precision is Precision.FP8 else _INTEGER)


def kept_share(plan: QuantizationPlan, placement: Placement) -> float:
    """`kept_nodes(plan, placement).share`."""
    return kept_nodes(plan, placement).share
