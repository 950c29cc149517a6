"""Whether enough of what was planned ran so; where not, which nodes, of which modules, and why."""

from __future__ import annotations

from edgeport.contracts import Outcome, Placement
from edgeport.errors import PlacementMissed

__all__ = ["judge_placement", "require_placement"]

_SHOWN = 3


def judge_placement(placement: Placement | None, least: float) -> tuple[Outcome, str]:
    """PASS, FAIL, or UNMEASURED where it is not known; and the finding in a sentence.

    Args:
        placement: As it was compared with its plan; None where the runtime tells nothing.
        least: Part of the planned nodes that must have run so, 0..1.

    """
    share = placement.as_planned if placement is not None else None
    if placement is None or share is None:
        return Outcome.UNMEASURED, "nothing tells what was planned and what ran: this needs what quantize or run built"
    planned, kept = placement.planned or 0, (placement.planned or 0) - len(placement.misplaced)
    if not planned and placement.unseen:
        seen = f"none of {placement.unseen} planned nodes was seen to run"
    elif not planned:
        seen = "every node may run as the runtime likes"
    else:
        seen = f"{kept} of {planned} planned nodes ({share:.1%}) ran as planned"
    if share >= least:
        return Outcome.PASS, seen
    first = "; ".join(str(one) for one in placement.misplaced[:_SHOWN])
    more = len(placement.misplaced) - _SHOWN
    listed = f": {first}" + (f"; and {more} more" if more > 0 else "") if first else ""
    return Outcome.FAIL, f"{seen}, {least:.4g} of them must{listed}"


def require_placement(placement: Placement | None, least: float, asked: str) -> None:
    """Raises where too little ran as planned, or where that is not known.

    Args:
        placement: As in `judge_placement`.
        least: As in `judge_placement`.
        asked: What for, as the error says it.

    Raises:
        PlacementMissed: With every misplaced node in its details.

    """
    outcome, found = judge_placement(placement, least)
    if outcome is Outcome.PASS:
        return
    misplaced = placement.misplaced if placement is not None else ()
    raise PlacementMissed(
        asked=f"{asked}, with {least:.4g} of its planned nodes run as planned",
        found=found,
        fix="keep these nodes in float (--node NAME=fp32), take another precision or runtime, or lower the share"
        if misplaced
        else "leave --require-placement out for this runtime",
        details={"misplaced": [vars(one) for one in misplaced]},
    )
