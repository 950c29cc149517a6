"""Range methods: from what observers saw of a tensor to the range that is mapped to integers.

Each method is a frozen dataclass; what it computes stands in one table, `METHODS`. A new one is a class and a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from edgeport.calibration.observers.histogram import bin_width, left_edges
from edgeport.contracts import Array, QuantizedDtype, TensorStatistics
from edgeport.errors import CalibrationError

__all__ = ["METHODS", "MinMax", "Percentile", "RangeMethod", "Scheme", "describe", "method_named", "range_of"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The integers that the range is for; methods that weigh rounding against clipping need to know.

    Attributes:
        dtype: Integer type.
        symmetric: The zero point is its middle.

    """

    dtype: QuantizedDtype = "uint8"
    symmetric: bool = False


@dataclass(frozen=True)
class MinMax:
    """From the smallest to the largest value seen: nothing is clipped, one outlier costs everyone resolution."""


@dataclass(frozen=True)
class Percentile:
    """Cuts `100 - percentile` percent of the values off at each end.

    Follows the percentile calibration of Wu et al., "Integer Quantization for Deep Learning Inference" (2020),
    section 5.2, there on magnitudes; here each end has its own.

    Attributes:
        percentile: Above 50, at most 100 (which is min-max).

    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 < self.percentile <= 100.0:
            raise CalibrationError(
                asked=f"take the {self.percentile} percentile as range",
                found="a number outside 50..100",
                fix="give a percentile above 50 and at most 100, such as 99.99",
            )


RangeMethod = MinMax | Percentile
"""What `range_of` takes; grows with `METHODS`."""

_NOTHING_FINITE = (math.inf, -math.inf)


def range_of(method: RangeMethod, statistics: TensorStatistics, *, scheme: Scheme | None = None) -> tuple[float, float]:
    """Smallest and largest value of the range.

    Args:
        method: How to choose it.
        statistics: Of one tensor, from `Calibration.statistics`.
        scheme: The integers it is for; min-max and percentile do not ask.

    Raises:
        CalibrationError: The observer that the method reads was not there, or nothing it saw was finite.

    """
    compute = METHODS.get(type(method))
    if compute is None:
        raise CalibrationError(
            asked=f"take a range by {type(method).__name__}",
            found=f"the methods {', '.join(sorted(known.__name__ for known in METHODS))}",
            fix="use one of them",
        )
    low, high = compute(method, statistics, scheme or Scheme())
    if (low, high) == _NOTHING_FINITE:
        raise CalibrationError(
            asked="take the range of a tensor", found="no finite value", fix="calibrate with samples that reach it"
        )
    return low, high


def method_named(text: str) -> RangeMethod:
    """The method of a recipe: "minmax", "percentile" or "percentile:99.9".

    Raises:
        CalibrationError: No such method, or a number that it does not take.

    """
    name, colon, argument = text.partition(":")
    method = {known.__name__.lower(): known for known in METHODS}.get(name)
    try:
        if method is None:
            raise ValueError("no such method")
        made: RangeMethod = method(float(argument)) if colon else method()
    except (ValueError, TypeError) as error:
        raise CalibrationError(
            asked=f"take ranges by {text!r}",
            found=str(error),
            fix='give "minmax", or "percentile:99.99" with a number above 50 and at most 100',
        ) from error
    return made


def describe(method: RangeMethod) -> str:
    """The method in a few words ("percentile 99.99")."""
    values = " ".join(str(value) for value in vars(method).values())
    return f"{type(method).__name__.lower()} {values}".strip()


def _min_max(method: MinMax, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    del method, scheme
    state = _state(statistics, "extremes")
    return float(state["minimum"]), float(state["maximum"])


def _percentile(method: Percentile, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    """The outer edges of the bins that hold the two order statistics: at most one bin wider than they are.

    Of n values, the upper one is the ceil(n * percentile / 100)-th smallest, the lower one its mirror image.
    """
    smallest, largest = _min_max(MinMax(), statistics, scheme)
    state = _state(statistics, "histogram")
    cumulated = np.cumsum(state["counts"])
    count = int(cumulated[-1])
    if count == 0:
        return _NOTHING_FINITE
    # Exact: in floating point 100 * 0.99 / 1 may round up to the next rank.
    rank = math.ceil(count * Fraction(str(method.percentile)) / 100)
    edges, width = left_edges(state), bin_width(state)
    low = edges[np.searchsorted(cumulated, count - rank + 1)]
    high = edges[np.searchsorted(cumulated, rank)] + width
    return max(float(low), smallest), min(float(high), largest)


def _state(statistics: TensorStatistics, observer: str) -> Mapping[str, Array]:
    state = statistics.get(observer)
    if state is None:
        raise CalibrationError(
            asked=f"take a range from observer {observer!r}",
            found=f"statistics of {', '.join(sorted(statistics)) or 'no observer'}",
            fix=f"calibrate again with {observer!r} among the observers",
        )
    return state


METHODS: Mapping[type, Callable[[Any, TensorStatistics, Scheme], tuple[float, float]]] = {
    MinMax: _min_max,
    Percentile: _percentile,
}
"""Range method to what computes it."""
