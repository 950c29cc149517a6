"""Calibrations of parts of a sample set, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeport.calibration.collect import require_finite
from edgeport.calibration.observers import merge_statistics
from edgeport.contracts import Calibration
from edgeport.errors import CalibrationError

__all__ = ["merge_calibrations"]


def merge_calibrations(parts: Sequence[Calibration]) -> Calibration:
    """What one process would have found over the samples of all parts, bit for bit.

    Args:
        parts: Of one model, the same tensors and the same observers; over disjoint parts of one sample set.

    Raises:
        CalibrationError: No parts, parts that do not belong together, or a tensor that was finite in none of them.

    """
    kinds = {
        (part.model_digest, part.samples_fingerprint, part.transforms, part.data_free, tuple(sorted(part.statistics)))
        for part in parts
    }
    if len(kinds) != 1:
        raise CalibrationError(
            asked=f"merge {len(parts)} calibrations",
            found="different models, samples or tensors" if parts else "none",
            fix="merge what was collected from one model over parts of one sample set",
        )
    first = parts[0]
    statistics = {name: merge_statistics([part.statistics[name] for part in parts]) for name in first.statistics}
    require_finite(statistics)
    return replace(first, sample_count=sum(part.sample_count for part in parts), statistics=statistics)
