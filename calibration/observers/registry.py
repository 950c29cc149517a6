"""The observers that there are, by the name under which `Calibration` keeps their states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeport.calibration.observers.averages import Averages
from edgeport.calibration.observers.extremes import Extremes
from edgeport.calibration.observers.histogram import Histogram
from edgeport.calibration.observers.protocol import Observer
from edgeport.contracts import Array, TensorStatistics
from edgeport.errors import CalibrationError

__all__ = ["OBSERVERS", "merge_statistics"]

OBSERVERS: Mapping[str, type[Observer]] = {"extremes": Extremes, "histogram": Histogram, "averages": Averages}
"""Open: hand `collect` a table with more in it, `{**OBSERVERS, "moments": Moments}`."""


def merge_statistics(
    parts: Sequence[TensorStatistics], *, observers: Mapping[str, type[Observer]] = OBSERVERS
) -> dict[str, dict[str, Array]]:
    """One tensor's statistics over everything that the parts saw.

    Raises:
        CalibrationError: No parts, an unknown observer, or parts that were watched by different ones.

    """
    names = sorted(parts[0]) if parts else []
    if not names or any(sorted(part) != names for part in parts) or not set(names) <= set(observers):
        raise CalibrationError(
            asked=f"merge {len(parts)} parts of a calibration",
            found=f"observers {[sorted(part) for part in parts]}, of which {sorted(observers)} are known",
            fix="merge parts that were watched by the same observers, and hand over a table that has all of them",
        )
    return {name: observers[name].merge([part[name] for part in parts]) for name in names}
