"""A histogram that merges exactly.

Bins are `2**exponent` wide and aligned to zero, so a bin of the next exponent is exactly two bins of this one.
The exponent depends on the largest magnitude alone. Both together make the counts independent of the order in which
values come and of how they are cut into arrays, which no histogram with bins fitted to its first batch is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.summary import Summary
from edgeport.contracts import Array

__all__ = [
    "BINS",
    "MOST_VALUES",
    "Histogram",
    "bin_width",
    "coarsen",
    "every",
    "left_edges",
    "most_values",
    "summary_of",
    "thinned",
]

BINS = 4096
"""Half of them for negative values: the largest magnitude lies 1024 to 2048 bins away from zero."""

MOST_VALUES = 32768
"""Of one sample that are counted; of more, every k-th is. Counting costs more than running most networks does."""

FEWEST_VALUES = 4096
"""The same of a sample among many, which have ENOUGH_VALUES together, or more: of each no fewer are counted."""

ENOUGH_VALUES = 1 << 22
"""Of all samples together: of so many, some 400 lie beyond the 99.99th percentile."""

_HALF = BINS // 2
_HALF_BITS = _HALF.bit_length() - 1
_SMALLEST_EXPONENT = -115
"""Values below 2**-104 share the two bins around zero; below, float32 loses digits."""
_CHUNK = 32768
"""Values handled at a time: the temporaries stay in the second-level cache."""


class Histogram:
    """Counts of the finite values in bins [i * w, (i + 1) * w), w = 2**exponent, i = -2048 .. 2047.

    Of a sample with more than MOST_VALUES values every k-th is counted, the same ones in each sample; k has no divisor
    in common with their number, so no row, column or channel is left out. Whoever has many samples may show less of
    each (`most_values`), but then from another start in each: else the few places that are large would be seen always
    or never.

    State: `counts` int64 [BINS], `exponent` int32 [].
    """

    needs_counted = True

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._exponent = _SMALLEST_EXPONENT

    def update(self, array: Array) -> None:
        """Takes in one array, a sample per index of axis 0; float64 is rounded to float32."""
        if array.size == 0:
            return
        with np.errstate(over="ignore"):
            self._count_all(thinned(array).reshape(-1).astype(np.float32, copy=False))

    def update_by(self, summary: Summary) -> None:
        """Takes in one tensor."""
        if summary.counted is not None:
            largest = float(max(-summary.lowest.min(), summary.highest.max()))
            self._count_all(summary.counted, fits=_exponent_for(largest) <= self._exponent)

    def _count_all(self, flat: NDArray[np.float32], *, fits: bool = False) -> None:
        """Takes in values; `fits` where all are known to be finite and within the bins."""
        scaled = np.empty(min(_CHUNK, flat.size), dtype=np.float32)
        narrow = np.empty(scaled.size, dtype=np.int16)
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            if fits:
                self._count(chunk, scaled[: chunk.size], narrow[: chunk.size])
            else:
                self._fit_and_count(chunk, scaled[: chunk.size], narrow[: chunk.size])

    def _fit_and_count(
        self, chunk: NDArray[np.float32], scaled: NDArray[np.float32], narrow: NDArray[np.int16]
    ) -> None:
        largest = float(max(-chunk.min(), chunk.max()))
        if not math.isfinite(largest):
            chunk = chunk[np.isfinite(chunk)]
            if chunk.size == 0:
                return
            scaled, narrow = scaled[: chunk.size], narrow[: chunk.size]
            largest = float(max(-chunk.min(), chunk.max()))
        exponent = _exponent_for(largest)
        if exponent > self._exponent:
            self._counts = coarsen(self._counts, exponent - self._exponent)
            self._exponent = exponent
        self._count(chunk, scaled, narrow)

    def _count(self, chunk: NDArray[np.float32], scaled: NDArray[np.float32], narrow: NDArray[np.int16]) -> None:
        if self._exponent > 0:
            # Dividing a tiny negative float32 could underflow to zero, and so leave its bin; a float64 does not.
            scaled = np.floor(np.ldexp(chunk.astype(np.float64), -self._exponent)).astype(np.float32)
        else:
            # Exact: a power of two moves the exponent only. astype() would cut towards zero, hence floor.
            np.multiply(chunk, np.float32(math.ldexp(1.0, -self._exponent)), out=scaled)
            np.floor(scaled, out=scaled)
        np.add(scaled, np.float32(_HALF), out=scaled)
        np.copyto(narrow, scaled, casting="unsafe")  # float32 to int64 in one step is three times slower
        self._counts += np.bincount(narrow, minlength=BINS)

    def state(self) -> dict[str, Array]:
        """Arrays by field name."""
        return {"counts": self._counts.copy(), "exponent": np.asarray(self._exponent, dtype=np.int32)}

    @classmethod
    def merge(cls, states: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The state over everything that the states saw."""
        exponent = max(int(state["exponent"]) for state in states)
        counts = np.zeros(BINS, dtype=np.int64)
        for state in states:
            counts += coarsen(state["counts"], exponent - int(state["exponent"]))
        return {"counts": counts, "exponent": np.asarray(exponent, dtype=np.int32)}


def summary_of(array: Array, most: int | None = None, start: int = 0) -> Summary | None:
    """What `Summary` says of an array, so that observers need not look at it each.

    None where it is not float32, empty, or not finite everywhere; then each looks at the array.

    Args:
        array: A sample per index of axis 0.
        most: As `thinned`; 0 where none are counted.
        start: As `thinned`.

    """
    if array.size == 0 or array.dtype != np.float32:
        return None
    rows = array.reshape(len(array) if array.ndim else 1, -1)
    lowest, highest = rows.min(axis=1), rows.max(axis=1)
    if not np.isfinite(np.concatenate((lowest, highest))).all():  # a NaN anywhere makes both NaN
        return None
    counted = None if most == 0 else thinned(rows, most, start).flatten()  # a view would hold the whole array
    return Summary(lowest=lowest, highest=highest, values=array.size, counted=counted)


def thinned(array: Array, most: int | None = None, start: int = 0) -> Array:
    """Every k-th value of each sample, [samples, n].

    Args:
        array: A sample per index of axis 0.
        most: As `every`, which finds k.
        start: Modulo k, the first of them.

    """
    rows = array.reshape(len(array) if array.ndim else 1, -1)
    step = every(rows.shape[1], most)
    return rows[:, start % step :: step]


def coarsen(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """Counts [BINS] in bins that are `2**doublings` times as wide; nothing is interpolated."""
    for _ in range(min(doublings, _HALF_BITS)):  # then only the two bins at zero are left
        pairs = counts.reshape(_HALF, 2).sum(axis=1)
        counts = np.zeros(BINS, dtype=np.int64)
        counts[_HALF // 2 : _HALF // 2 + _HALF] = pairs
    return counts


def bin_width(state: Mapping[str, Array]) -> float:
    """Width of a bin, in the tensor's unit."""
    return math.ldexp(1.0, int(state["exponent"]))


def left_edges(state: Mapping[str, Array]) -> NDArray[np.float64]:
    """Left edge of each bin [BINS]; the right edge is one width further."""
    return np.arange(-_HALF, _HALF, dtype=np.float64) * bin_width(state)


def most_values(samples: int) -> int:
    """How many values of each of so many samples are counted, at most."""
    return min(MOST_VALUES, max(FEWEST_VALUES, ENOUGH_VALUES // samples))


def every(size: int, most: int | None = None) -> int:
    """From one counted value of a sample to the next.

    Args:
        size: Values in a sample.
        most: Of which this many are counted; None for MOST_VALUES.

    """
    step = max(1, -(-size // (most or MOST_VALUES)))
    while math.gcd(step, size) > 1:
        step += 1
    return step


def _exponent_for(largest: float) -> int:
    """The smallest exponent whose bins reach beyond `largest` on both sides."""
    _, exponent = math.frexp(largest)  # largest < 2**exponent
    return max(exponent - _HALF_BITS, _SMALLEST_EXPONENT) if largest > 0 else _SMALLEST_EXPONENT
