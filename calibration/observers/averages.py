"""Means of the samples' extremes, summed exactly.

Floating-point sums depend on their order. Every float32 is a whole multiple of 2**-149, so the sums are kept as whole
numbers, as in the long accumulator of Kulisch ("Computer Arithmetic and Validity", 2013): no bit is lost, and sums of
parts are the sum of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.summary import Summary
from edgeport.contracts import Array

__all__ = ["Averages", "mean_extremes"]

_UNIT_EXPONENT = 149
_BYTES = 48
"""384 bits: 278 for the largest float32 in units of 2**-149, and room for 2**64 samples and the sign."""


class Averages:
    """Sums of each sample's smallest and largest finite value.

    State: `minimum_sum`, `maximum_sum` uint8 [48] (whole multiples of 2**-149, little-endian, two's complement),
    `samples` int64 [] (those with a finite value).
    """

    needs_counted = False

    def __init__(self) -> None:
        self._minimum = 0
        self._maximum = 0
        self._samples = 0

    def update(self, array: Array) -> None:
        """Takes in one array, a sample per index of axis 0; float64 is rounded to float32."""
        if array.size == 0:
            return
        with np.errstate(over="ignore"):
            rows = array.reshape(len(array) if array.ndim else 1, -1).astype(np.float32, copy=False)
        lowest, highest = rows.min(axis=1), rows.max(axis=1)
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
            finite = np.isfinite(rows)
            lowest = np.where(finite, rows, np.float32(np.inf)).min(axis=1)[finite.any(axis=1)]
            highest = np.where(finite, rows, np.float32(-np.inf)).max(axis=1)[finite.any(axis=1)]
        self.add(lowest, highest)

    def update_by(self, summary: Summary) -> None:
        """Takes in one tensor."""
        self.add(summary.lowest, summary.highest)

    def add(self, lowest: NDArray[np.float32], highest: NDArray[np.float32]) -> None:
        """Takes in the finite extremes of samples, float32 [n] each."""
        self._minimum += _exact_sum(lowest)
        self._maximum += _exact_sum(highest)
        self._samples += lowest.size

    def state(self) -> dict[str, Array]:
        """Arrays by field name."""
        return _state(self._minimum, self._maximum, self._samples)

    @classmethod
    def merge(cls, states: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The state over everything that the states saw."""
        return _state(
            sum(_whole(state["minimum_sum"]) for state in states),
            sum(_whole(state["maximum_sum"]) for state in states),
            sum(int(state["samples"]) for state in states),
        )


def mean_extremes(state: Mapping[str, Array]) -> tuple[float, float] | None:
    """Mean of the samples' minima, and of their maxima; None where no sample had a finite value."""
    samples = int(state["samples"])
    if not samples:
        return None
    unit = samples << _UNIT_EXPONENT
    return _whole(state["minimum_sum"]) / unit, _whole(state["maximum_sum"]) / unit  # rounded once, correctly


def _exact_sum(values: NDArray[np.float32]) -> int:
    return sum(map(int, np.ldexp(values.astype(np.float64), _UNIT_EXPONENT).tolist()))


def _whole(array: Array) -> int:
    return int.from_bytes(array.tobytes(), "little", signed=True)


def _state(minimum: int, maximum: int, samples: int) -> dict[str, Array]:
    sums = (np.frombuffer(total.to_bytes(_BYTES, "little", signed=True), np.uint8) for total in (minimum, maximum))
    lowest, highest = (array.copy() for array in sums)
    return {"minimum_sum": lowest, "maximum_sum": highest, "samples": np.asarray(samples, dtype=np.int64)}
