"""Which float the winner's gain is told against."""

from __future__ import annotations

from edgeport.contracts import RunResult

__all__ = ["hardest_float"]


def hardest_float(result: RunResult) -> str:
    """The float that the winner's gain is told against.

    It must beat every float that came near the best one, and its gain is the smallest of these.
    """
    against = result.candidate(result.chosen).against_float if result.chosen else None
    return against.against if against is not None and against.against else result.best_float
