"""Numbers with units, as budgets have them ("p90 <= 5 ms", "10 MB")."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

__all__ = [
    "NotAQuantity",
    "parse_bytes",
    "parse_duration",
    "parse_latency",
    "parse_part",
    "parse_rate",
    "parse_seconds",
    "parse_share",
    "parse_time",
]

_TIME_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}
_DURATION_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}
_NUMBER = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_SHORTEST_S = 1e-3
_LONGEST_S = 30 * 24 * 3600.0
_MOST = 2.0**63
"""What no counter of the system holds: no size, and no time in nanoseconds."""
_AT_MOST = r"(?:<=|≤|<)?\s*"


class NotAQuantity(ValueError):
    """Not in the form that is asked for; its text says which."""


def parse_latency(text: str) -> tuple[float, int]:
    """Quantile (0..1) and nanoseconds of "p90 <= 5 ms"; without a quantile it is the median."""
    match = re.fullmatch(rf"\s*(?:[pP](\d+(?:\.\d+)?)\s*)?{_AT_MOST}{_NUMBER}\s*([a-zµμ]+)\s*", text)
    if match is None or match[3] not in _TIME_NS:
        raise NotAQuantity('a quantile, a number and a unit (ns, us, ms, s), such as "p50 <= 5 ms"')
    # Through text, so that p99.9 is .999 and not .9990000000000001.
    quantile = float(f"{match[1]}e-2") if match[1] else 0.5
    if not 0 < quantile < 1:
        raise NotAQuantity("a quantile above p0 and below p100")
    return quantile, _whole(float(match[2]) * _TIME_NS[match[3]])


def parse_time(text: str) -> int:
    """Nanoseconds of "200 ms"."""
    return _whole(_scaled(text, _TIME_NS, 'a number and a unit (ns, us, ms, s), such as "200 ms"'))


def parse_seconds(text: str) -> float:
    """Seconds of "60s" or "200 ms"; above 0."""
    seconds = parse_time(text) / 1e9
    if not seconds > 0:
        raise NotAQuantity('a time above 0, such as "60s"')
    return seconds


def parse_duration(text: str) -> float:
    """Seconds of "5m", "90 s" or "1h"; from a millisecond to 30 days."""
    wanted = 'a number above 0 and a unit (s, m, h), such as "5m"'
    seconds = _scaled(text, _DURATION_S, wanted)
    if not seconds >= _SHORTEST_S:
        raise NotAQuantity(wanted)
    if seconds > _LONGEST_S:
        raise NotAQuantity('30 days (720 h) or less, such as "5m"')
    return seconds


def parse_bytes(text: str) -> int:
    """Bytes of "10 MB" (1000 * 1000) or "10 MiB" (1024 * 1024)."""
    return _whole(_scaled(text, _BYTES, 'a number and a unit (KB, MB, GB, MiB, GiB), such as "10 MB"'))


def parse_rate(text: str) -> float:
    """Per second, of "200/s" or "200 per s"."""
    match = re.fullmatch(rf"\s*(?:>=|≥|>)?\s*{_NUMBER}\s*(?:/|per)\s*(?:s|second)\s*", text)
    if match is None or not 0 < float(match[1]) < math.inf:
        raise NotAQuantity('a number above 0 per second, such as "200/s"')
    return float(match[1])


def parse_share(text: str) -> float:
    """Part of one, of "1%" or "0.01"."""
    match = re.fullmatch(rf"\s*{_NUMBER}\s*(%?)\s*", text)
    share = float(match[1]) / (100 if match[2] else 1) if match is not None else 0.0
    if not 0 < share < 1:
        raise NotAQuantity('a percentage above 0 and below 100, such as "1%"')
    return share


def parse_part(text: str) -> float:
    """Part of one, of "95%", "100%" or "0.95"."""
    match = re.fullmatch(rf"\s*(?:>=|≥)?\s*{_NUMBER}\s*(%?)\s*", text)
    part = float(match[1]) / (100 if match[2] else 1) if match is not None else 0.0
    if not 0 < part <= 1:
        raise NotAQuantity('a percentage above 0, of 100 at most, such as "95%"')
    return part


def _whole(value: float) -> int:
    if not value < _MOST:
        raise NotAQuantity("a smaller number")
    return round(value)


def _scaled(text: str, units: Mapping[str, float], wanted: str) -> float:
    match = re.fullmatch(rf"\s*{_AT_MOST}{_NUMBER}\s*([a-zA-Zµμ]+)\s*", text)
    unit = match[2] if match is not None else ""
    unit = unit if unit in units else unit.upper()
    if match is None or unit not in units:
        raise NotAQuantity(wanted)
    return float(match[1]) * units[unit]
