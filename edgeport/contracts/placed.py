"""Which nodes did not run as they were planned, each with its module and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeport.contracts.backend import Misplaced, NodePlacement, Placement
from edgeport.contracts.kept import is_as_planned
from edgeport.contracts.plan import QuantizationPlan
from edgeport.options.precision import Precision

__all__ = ["NodeOrigin", "compared"]


@dataclass(frozen=True, kw_only=True)
class NodeOrigin:
    """What an ONNX node is.

    Attributes:
        operator: ONNX operator type.
        module: Path of the PyTorch module that it came from; empty where the file does not tell.

    """

    operator: str
    module: str = ""


def compared(
    placement: Placement, plan: QuantizationPlan, nodes: Mapping[str, NodeOrigin], *, device: str = ""
) -> Placement:
    """The placement with `planned`, `misplaced` and `unseen`: what became of each node that was planned.

    Counted are the nodes that the plan names; where its float is narrower than float32, the others that compute too;
    and where a device was asked for, all that compute. A node whose work several kernels share is as planned where one
    of them is. Nodes that only move numbers, or that the runtime does not tell of, are in no count but `unseen`.

    Args:
        placement: As a backend read it.
        plan: What was compiled.
        nodes: By name of the ONNX node.
        device: Execution provider or device that was asked for; empty where it does not matter.

    """
    ran: dict[str, list[NodePlacement]] = {}
    for kernel in placement.nodes:
        if kernel.precision or kernel.weights or (device and kernel.device == device):
            for name in kernel.origin:
                ran.setdefault(name, []).append(kernel)
    narrow = plan.default in (Precision.BF16, Precision.FP16)
    wanted: dict[str, Precision | None] = {}
    if narrow or device:
        wanted |= dict.fromkeys(ran, plan.default if narrow else None)
    wanted |= plan.nodes
    known = [(name, precision) for name, precision in wanted.items() if name in ran]
    found = [_misplaced(name, precision, ran[name], nodes, device) for name, precision in known]
    return replace(
        placement,
        planned=len(known),
        misplaced=tuple(one for one in found if one is not None),
        unseen=len(wanted) - len(known),
    )


def _misplaced(
    name: str,
    precision: Precision | None,
    kernels: Sequence[NodePlacement],
    nodes: Mapping[str, NodeOrigin],
    device: str,
) -> Misplaced | None:
    off = [
        kernel
        for kernel in kernels
        if (device and kernel.device != device) or (precision is not None and not is_as_planned(precision, kernel))
    ]
    if len(off) < len(kernels):
        return None
    kernel = next((one for one in off if one.reason), off[0])
    elsewhere = f"asked for {device}, which did not take it" if device and kernel.device != device else ""
    origin = nodes.get(name, NodeOrigin(operator=kernel.operator))
    return Misplaced(
        node=name,
        operator=origin.operator,
        module=origin.module,
        planned=str(precision or ""),
        ran_as=kernel.ran_as,
        device=kernel.device,
        reason=kernel.reason or elsewhere or f"the runtime made a {kernel.operator} of it, and gives no reason",
    )
