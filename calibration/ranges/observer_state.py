"""Reads the state of an observer, or says that it was not kept."""

from __future__ import annotations

from collections.abc import Mapping

from edgeport.contracts import Array, TensorStatistics
from edgeport.errors import CalibrationError

__all__ = ["extremes_of", "state_of"]


def state_of(statistics: TensorStatistics, observer: str) -> Mapping[str, Array]:
    """The state that `observer` left.

    Raises:
        CalibrationError: It did not watch.

    """
    state = statistics.get(observer)
    if state is None:
        raise CalibrationError(
            asked=f"take a range from observer {observer!r}",
            found=f"statistics of {', '.join(sorted(statistics)) or 'no observer'}",
            fix=f"calibrate again with {observer!r} among the observers",
        )
    return state


def extremes_of(statistics: TensorStatistics) -> tuple[float, float]:
    """Smallest and largest value; inf and -inf where nothing was finite."""
    state = state_of(statistics, "extremes")
    return float(state["minimum"]), float(state["maximum"])
