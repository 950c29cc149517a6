"""Which float the winner's gain is told against."""

from __future__ import annotations

import math

from edgeport.contracts import RunResult
from edgeport.devices.latency.comparison import compare

__all__ = ["hardest_float"]


def hardest_float(result: RunResult) -> str:
    """The float that `against_float` of the winner was compared with.

    The winner must beat every float that came near the best one, and its gain is the smallest of these; the comparison
    itself does not name the float.
    """
    ours = result.confirmation.get(result.chosen)
    against = result.candidate(result.chosen).against_float if result.chosen else None
    floats = [c.name for c in result.candidates if c.is_float and c.name != result.chosen]
    floats = [name for name in floats if name in result.confirmation]
    if ours is None or against is None or not floats:
        return result.best_float

    def distance(name: str) -> float:
        told = compare(result.confirmation[name], ours).speedup.estimate
        return abs(math.log(told / against.speedup.estimate))

    return min(floats, key=distance)
