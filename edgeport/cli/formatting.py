"""Numbers and intervals in as few characters as tables have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeport.contracts.verdict import Interval

__all__ = ["TimeUnit", "bytes_of", "fixed", "gain_span", "peak_of", "significant", "span"]

_NOTHING = "-"
_LARGE = 1e7
_MOST_PLACES = 8


@dataclass(frozen=True, kw_only=True)
class TimeUnit:
    """One unit for a whole column, so that its numbers compare at a glance."""

    name: str
    nanoseconds: float

    @classmethod
    def fitting(cls, smallest_ns: float) -> TimeUnit:
        """Microseconds where the smallest number would vanish in milliseconds."""
        if smallest_ns < 1e5:
            return cls(name="us", nanoseconds=1e3)
        return cls(name="ms", nanoseconds=1e6) if smallest_ns < 1e10 else cls(name="s", nanoseconds=1e9)

    def scaled(self, interval_ns: Interval) -> Interval:
        """The interval in this unit."""
        return Interval(
            low=interval_ns.low / self.nanoseconds,
            estimate=interval_ns.estimate / self.nanoseconds,
            high=interval_ns.high / self.nanoseconds,
            confidence=interval_ns.confidence,
        )


def significant(value: float, digits: int = 3) -> str:
    """The number with this many significant digits and no exponent where that is readable."""
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else _NOTHING
    if value == 0:
        return "0"
    places = _places(value, digits)
    if places > _MOST_PLACES or abs(value) >= _LARGE:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(places, 0)}f}"


def gain_span(speedup: Interval) -> str:
    """The bounds of a speedup; where so few rounds bound it on no side, that they are too few."""
    return span(speedup) if math.isfinite(speedup.high) else "too few rounds"


def _places(value: float, digits: int) -> int:
    """Places behind the point that `digits` significant digits need; below 0 for large numbers."""
    return digits - 1 - math.floor(math.log10(abs(value)))


def span(interval: Interval, *, places: int | None = None) -> str:
    """The bounds; with `places`, both have that many places behind the point.

    Without, they have three significant digits, but none that the estimate itself has not.
    """
    if places is not None:
        return f"{fixed(interval.low, places)}..{fixed(interval.high, places)}"
    most = _MOST_PLACES
    if math.isfinite(interval.estimate) and interval.estimate != 0:
        most = max(_places(interval.estimate, 3), 0)
    return f"{_bound(interval.low, most)}..{_bound(interval.high, most)}"


def _bound(value: float, most: int) -> str:
    if not math.isfinite(value) or value == 0 or abs(value) >= _LARGE or _places(value, 3) <= most:
        return significant(value)
    return fixed(value, most)


def fixed(value: float, places: int) -> str:
    """The number with this many places behind the point."""
    return f"{value:.{places}f}" if math.isfinite(value) else significant(value)


def bytes_of(count: int) -> str:
    """A size as people say it (1 MB is 1000 * 1000 bytes)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{significant(count / size)} {unit}"
    return f"{count} B"


def peak_of(count: int) -> str:
    """The largest memory that a device told; 0 stands for one that tells none."""
    return bytes_of(count) if count else "not told"
