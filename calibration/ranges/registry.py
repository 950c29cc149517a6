"""Range methods: from what observers saw of a tensor to the range that is mapped to integers.

Each method is a frozen dataclass (`methods.py`) and a row of one table, `METHODS`: its name in recipes, the observers
that it reads, and what it computes. A new one is a class and a row.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeport.calibration.ranges.automatic import automatic
from edgeport.calibration.ranges.entropy import entropy
from edgeport.calibration.ranges.extremes import NOTHING_FINITE, average, fixed, min_max, percentile
from edgeport.calibration.ranges.grid import Scheme
from edgeport.calibration.ranges.methods import (
    Auto,
    Average,
    Entropy,
    FixedRange,
    LeastSquares,
    Measured,
    MinMax,
    OneRange,
    Percentile,
    PowerOfTwo,
    RangeMethod,
)
from edgeport.calibration.ranges.mse import least_squares, power_of_two
from edgeport.calibration.ranges.observer_state import extremes_of
from edgeport.contracts import TensorStatistics
from edgeport.errors import CalibrationError

__all__ = ["METHODS", "Row", "describe", "form_of", "method_named", "observers_of", "range_of", "resolve"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of the table.

    Attributes:
        name: In recipes and on the command line.
        arguments: Numbers behind the name: how many it may have.
        form: An example of it as text, for messages.
        observers: That it reads.
        compute: Method, statistics of one tensor, and scheme, to the range; (inf, -inf) where nothing was finite.

    """

    name: str
    arguments: tuple[int, ...] = (0,)
    form: str
    observers: tuple[str, ...]
    compute: Callable[[Any, TensorStatistics, Scheme], tuple[float, float]]


def _unresolved(method: OneRange, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    del method, statistics, scheme
    raise CalibrationError(
        asked="take the range of one tensor by the one range of the whole model",
        found="a range that is not found yet",
        fix="call resolve(method, calibration.statistics) first",
    )


def _unmeasured(method: Measured, statistics: TensorStatistics, scheme: Scheme) -> tuple[float, float]:
    del method, statistics, scheme
    raise CalibrationError(
        asked="take the range of one tensor by the method that is best for the whole model",
        found="a method that is not measured yet",
        fix="call measure_methods(...) of edgeport.calibration.range_method_search first, and plan by its choice",
    )


_EXTREMES = ("extremes",)
_BOTH = ("extremes", "histogram")

METHODS: Mapping[type, Row] = {
    MinMax: Row(name="minmax", form="minmax", observers=_EXTREMES, compute=min_max),
    Average: Row(name="average", form="average", observers=("extremes", "averages"), compute=average),
    Percentile: Row(name="percentile", arguments=(0, 1), form="percentile:99.99", observers=_BOTH, compute=percentile),
    Entropy: Row(name="entropy", form="entropy", observers=_BOTH, compute=entropy),
    LeastSquares: Row(name="mse", form="mse", observers=_BOTH, compute=least_squares),
    PowerOfTwo: Row(name="pow2", form="pow2", observers=_BOTH, compute=power_of_two),
    OneRange: Row(name="global", form="global", observers=_EXTREMES, compute=_unresolved),
    FixedRange: Row(name="global", arguments=(2,), form="global:-6:6", observers=_EXTREMES, compute=fixed),
    Auto: Row(name="auto", form="auto", observers=(*_BOTH, "averages"), compute=automatic),
    Measured: Row(name="measured", form="measured", observers=(*_BOTH, "averages"), compute=_unmeasured),
}
"""Range method to its row. Every method reads the extremes: they tell what was never finite."""


def range_of(method: RangeMethod, statistics: TensorStatistics, *, scheme: Scheme | None = None) -> tuple[float, float]:
    """Smallest and largest value of the range.

    Args:
        method: How to choose it; `resolve` it first, where it looks at the whole model.
        statistics: Of one tensor, from `Calibration.statistics`.
        scheme: The integers it is for; uint8, asymmetric where none is given.

    Raises:
        CalibrationError: The observer that the method reads was not there, or nothing it saw was finite.

    """
    row = METHODS.get(type(method))
    if row is None:
        raise CalibrationError(
            asked=f"take a range by {type(method).__name__}",
            found=f"the methods {', '.join(sorted(known.__name__ for known in METHODS))}",
            fix="use one of them",
        )
    low, high = row.compute(method, statistics, scheme or Scheme())
    if (low, high) == NOTHING_FINITE:
        raise CalibrationError(
            asked="take the range of a tensor", found="no finite value", fix="calibrate with samples that reach it"
        )
    return low, high


def resolve(method: RangeMethod, statistics: Mapping[str, TensorStatistics]) -> RangeMethod:
    """The method for one model: what looks at all of its tensors is found here, all else stays as it is.

    Args:
        method: As asked for.
        statistics: Of the tensors that get ranges; one that was not finite in every sample does not count.

    Raises:
        CalibrationError: No tensor was finite.

    """
    if not isinstance(method, OneRange):
        return method
    ends = [
        extremes_of(each)
        for each in statistics.values()
        if int(each["extremes"]["nonfinite"]) == 0 < int(each["extremes"]["count"])
    ]
    low, high = min((low for low, _ in ends), default=0.0), max((high for _, high in ends), default=0.0)
    if not min(low, 0.0) < max(high, 0.0):
        raise CalibrationError(
            asked="find one range for the whole model",
            found="no tensor with finite values other than zero",
            fix="calibrate with other samples, or give the range, such as global:-6:6",
        )
    return FixedRange(min(low, 0.0), max(high, 0.0))


def method_named(text: str) -> RangeMethod:
    """The method of a recipe: "minmax", "percentile:99.9", "entropy", "global:-6:6" and so on.

    Raises:
        CalibrationError: No such method, or numbers that it does not take.

    """
    name, *arguments = text.split(":")
    forms = ", ".join(row.form for row in METHODS.values())
    fitting = [known for known, row in METHODS.items() if row.name == name]
    try:
        if not fitting:
            raise ValueError("no such method")
        chosen = next((known for known in fitting if len(arguments) in METHODS[known].arguments), None)
        if chosen is None:
            raise ValueError(f"{len(arguments)} numbers behind {name!r}")
        made: RangeMethod = chosen(*map(float, arguments))
    except ValueError as error:
        near = difflib.get_close_matches(name, [row.name for row in METHODS.values()], n=1)
        nearest = f"did you mean {near[0]!r}? " if near and near[0] != name else ""
        raise CalibrationError(
            asked=f"take ranges by {text!r}", found=str(error), fix=f"{nearest}give one of {forms}"
        ) from error
    return made


def observers_of(method: RangeMethod) -> tuple[str, ...]:
    """Names of the observers that the method reads."""
    return METHODS[type(method)].observers


def form_of(method: RangeMethod) -> str:
    """The method as `method_named` reads it ("percentile:99.99")."""
    return ":".join([METHODS[type(method)].name, *(f"{value:.12g}" for value in vars(method).values())])


def describe(method: RangeMethod) -> str:
    """The method in a few words ("percentile 99.99")."""
    values = " ".join(f"{value:.12g}" for value in vars(method).values())
    return f"{METHODS[type(method)].name} {values}".strip()
