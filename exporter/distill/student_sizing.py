"""A student's size: the value of its factory's argument, chosen for a latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeport.errors import DistillationError

__all__ = ["StudentSize", "scale_to_latency"]


@dataclass(frozen=True, kw_only=True)
class StudentSize:
    """The size that was chosen for a latency.

    Attributes:
        value: Of the factory's argument.
        latency_ns: Its median.
        goal_ns: What it was to be at most.
        reached: It is.
        trials: Each value that was measured, with its median, in the order of measuring.

    """

    value: float
    latency_ns: float
    goal_ns: float
    reached: bool
    trials: tuple[tuple[float, float], ...]


def scale_to_latency(values: Sequence[float], measure: Callable[[float], float], goal_ns: float) -> StudentSize:
    """The largest value whose network is fast enough, by halving: latency is taken to grow with the value.

    Args:
        values: To choose from, of a factory's argument: a width, a depth.
        measure: Of a value, the median in ns of the network that is made with it.
        goal_ns: The median that is asked for.

    Returns:
        The largest value that was measured and meets the goal; the fastest one where none does.

    Raises:
        DistillationError: No values, or no goal.

    """
    ordered = sorted(set(values))
    if not ordered or not goal_ns > 0:
        raise DistillationError(
            asked=f"scale a student to {goal_ns / 1e6:g} ms",
            found=f"{len(ordered)} sizes to choose from",
            fix="give one size or more, and a latency above 0",
        )
    trials: list[tuple[float, float]] = []
    low, high = 0, len(ordered) - 1
    while low <= high:
        middle = (low + high + 1) // 2
        trials.append((ordered[middle], measure(ordered[middle])))
        if trials[-1][1] <= goal_ns:
            low = middle + 1
        else:
            high = middle - 1
    meeting = [one for one in trials if one[1] <= goal_ns]
    value, latency_ns = max(meeting) if meeting else min(trials, key=lambda one: one[1])
    return StudentSize(value=value, latency_ns=latency_ns, goal_ns=goal_ns, reached=bool(meeting), trials=tuple(trials))
