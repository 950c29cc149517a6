"""Which float the winner's gain is told against, and what both took when they were measured again."""

from __future__ import annotations

from collections.abc import Callable

from edgeport.contracts import Candidate, RunResult

__all__ = ["AGAIN", "again_mark", "hardest_float", "measured_again"]

AGAIN = "*"
"""Behind a gain that is not of the experiment whose times stand beside it."""


def hardest_float(result: RunResult) -> str:
    """The float that the winner's gain is told against.

    It must beat every float that came near the best one, and its gain is the smallest of these.
    """
    against = result.candidate(result.chosen).against_float if result.chosen else None
    return against.against if against is not None and against.against else result.best_float


def again_mark(candidate: Candidate) -> str:
    """`AGAIN` where its gain comes from the confirmation; else empty."""
    return AGAIN if candidate.against_float is not None and candidate.against_float.again_ns else ""


def measured_again(result: RunResult, shown: Callable[[float], str]) -> str:
    """What a gain with a mark is made of: the times of the confirmation, which are not those of the screening.

    Args:
        result: Of one target.
        shown: A time (ns) as the tables show it.

    Returns:
        In two sentences; empty where nothing was measured again.

    """
    pairs = []
    for candidate in result.candidates:
        again = candidate.against_float.again_ns if candidate.against_float is not None else {}
        if candidate.against_float is not None and again:
            other = candidate.against_float.against
            pairs.append(f"{candidate.name} took {shown(again[candidate.name])}, {other} {shown(again[other])}")
    if not pairs:
        return ""
    return (
        f"Measured again, side by side in fresh processes: {'; '.join(pairs)}. "
        "p50 and p90 are of the screening, in which all candidates ran."
    )
