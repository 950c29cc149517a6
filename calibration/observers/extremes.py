"""Smallest and largest value, and how many there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeport.calibration.observers.summary import Summary
from edgeport.contracts import Array

__all__ = ["Extremes"]


class Extremes:
    """Extremes of the finite values, and a count of all and of those that are not finite.

    State: `minimum`, `maximum` float32 [] (inf and -inf where nothing was finite), `count`, `nonfinite` int64 [].
    """

    needs_counted = False

    def __init__(self) -> None:
        self._minimum = np.float32(np.inf)
        self._maximum = np.float32(-np.inf)
        self._count = 0
        self._nonfinite = 0

    def update(self, array: Array) -> None:
        """Takes in one array; float64 is rounded to float32."""
        if array.size == 0:
            return
        self._count += array.size
        with np.errstate(over="ignore"):
            lowest, highest = np.float32(array.min()), np.float32(array.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):  # a NaN anywhere makes both NaN
            with np.errstate(over="ignore"):
                narrow = array.astype(np.float32, copy=False)
            finite = narrow[np.isfinite(narrow)]
            self._nonfinite += array.size - finite.size
            if finite.size == 0:
                return
            lowest, highest = finite.min(), finite.max()
        self._minimum = min(self._minimum, lowest)
        self._maximum = max(self._maximum, highest)

    def update_by(self, summary: Summary) -> None:
        """Takes in one tensor."""
        self._count += summary.values
        self._minimum = min(self._minimum, summary.lowest.min())
        self._maximum = max(self._maximum, summary.highest.max())

    def state(self) -> dict[str, Array]:
        """Arrays by field name."""
        return {
            # Adding 0.0 turns -0.0 into 0.0: which of the two came first must not show.
            "minimum": np.asarray(self._minimum + np.float32(0), dtype=np.float32),
            "maximum": np.asarray(self._maximum + np.float32(0), dtype=np.float32),
            "count": np.asarray(self._count, dtype=np.int64),
            "nonfinite": np.asarray(self._nonfinite, dtype=np.int64),
        }

    @classmethod
    def merge(cls, states: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The state over everything that the states saw."""
        return {
            "minimum": np.asarray(min(state["minimum"] for state in states), dtype=np.float32),
            "maximum": np.asarray(max(state["maximum"] for state in states), dtype=np.float32),
            "count": np.asarray(sum(int(state["count"]) for state in states), dtype=np.int64),
            "nonfinite": np.asarray(sum(int(state["nonfinite"]) for state in states), dtype=np.int64),
        }
