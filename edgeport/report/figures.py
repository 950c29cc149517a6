"""Numbers as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeport.contracts import Interval

__all__ = [
    "AccuracyUnit",
    "LatencyUnit",
    "bytes_text",
    "count_text",
    "duration_text",
    "gain_interval_text",
    "interval_text",
    "joules_text",
    "number_text",
    "percent_text",
    "rate_text",
    "seconds_text",
    "speedup_text",
]

_PARTS_OF_ONE = ("top1", "top5", "agreement", "accuracy")
"""Metrics that count samples; they are shown in per cent."""


@dataclass(frozen=True, kw_only=True)
class LatencyUnit:
    """One unit for all latencies of a report.

    Attributes:
        name: "µs", "ms" or "s".
        ns: Nanoseconds in one.

    """

    name: str
    ns: float

    @classmethod
    def fitting(cls, typical_ns: float) -> LatencyUnit:
        """The largest unit in which `typical_ns` is 1 or more."""
        for name, ns in (("s", 1e9), ("ms", 1e6)):
            if typical_ns >= ns:
                return cls(name=name, ns=ns)
        return cls(name="µs", ns=1e3)

    def number(self, ns: float) -> str:
        """Three digits, without the unit."""
        return _three_digits(ns / self.ns)

    def text(self, ns: float) -> str:
        """Three digits and the unit."""
        return f"{self.number(ns)} {self.name}"

    def span(self, interval: Interval) -> str:
        """The interval's bounds."""
        return f"{self.number(interval.low)} to {self.number(interval.high)}"


@dataclass(frozen=True, kw_only=True)
class AccuracyUnit:
    """How a metric is shown: counts of samples in per cent, everything else as it is.

    Attributes:
        metric: Its name.

    """

    metric: str

    @property
    def scale(self) -> float:
        """The metric's value times this is what is shown."""
        return 100.0 if self.metric in _PARTS_OF_ONE else 1.0

    @property
    def sign(self) -> str:
        """Behind a value: " %", or nothing."""
        return " %" if self.metric in _PARTS_OF_ONE else ""

    @property
    def difference(self) -> str:
        """What a difference of 1 is called."""
        return "points" if self.metric in _PARTS_OF_ONE else f"of {self.metric}"

    def number(self, value: float) -> str:
        """A value, without the sign."""
        shown = value * self.scale
        return _signed(f"{shown:.2f}" if self.scale > 1 else f"{shown:.4g}")

    def text(self, value: float) -> str:
        """A value with its sign."""
        return f"{self.number(value)}{self.sign}"

    def span(self, interval: Interval) -> str:
        """The interval's bounds."""
        return f"{self.number(interval.low)} to {self.number(interval.high)}"


def interval_text(interval: Interval, digits: int = 2) -> str:
    """The bounds with as many decimal places."""
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def speedup_text(interval: Interval) -> str:
    """How many times as fast."""
    return f"{interval.estimate:.2f}×"  # noqa: RUF001 (the sign for "times")


def gain_interval_text(speedup: Interval) -> str:
    """The bounds of a speedup; where so few rounds bound it on no side, that they are too few."""
    return interval_text(speedup) if math.isfinite(speedup.high) else "too few rounds"


def bytes_text(count: float) -> str:
    """A size in kB, MB or GB (powers of 1000)."""
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{_three_digits(count / size)} {name}"
    return f"{count:.0f} B"


def number_text(value: float) -> str:
    """Three digits, or all those before the point."""
    return _three_digits(value)


def count_text(count: float) -> str:
    """A number with three digits, and k, M, G or T for powers of 1000."""
    for name, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{_three_digits(count / size)} {name}"
    return f"{_three_digits(count)} "


def rate_text(per_s: float, what: str) -> str:
    """So many a second: "43.1 GB/s", "1.20 Top/s"."""
    return f"{count_text(per_s)}{what}/s"


def percent_text(share: float) -> str:
    """A share of 1 in per cent; two digits, so that small ones are not zero."""
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"


def joules_text(joules: float) -> str:
    """J, mJ or µJ; what a noisy meter gives may be below zero."""
    for name, size in (("J", 1.0), ("mJ", 1e-3)):
        if abs(joules) >= size:
            return f"{_signed(_three_digits(joules / size))} {name}"
    return f"{_signed(_three_digits(joules / 1e-6))} µJ"


def duration_text(ns: float) -> str:
    """A time in the unit that fits it."""
    return LatencyUnit.fitting(ns).text(ns)


def seconds_text(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _signed(text: str) -> str:
    """With a real minus sign, and none before a zero."""
    if not text.startswith("-"):
        return text
    return "\N{MINUS SIGN}" + text[1:] if float(text) else text[1:]


def _three_digits(value: float) -> str:
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
