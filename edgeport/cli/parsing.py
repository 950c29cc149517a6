"""Texts of the command line as values: quantities with units, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeport.errors import UsageError

__all__ = ["FORMS", "parse_argument", "parse_samples"]


def parse_argument(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=JSON`."""
    name, sign, value = text.partition("=")
    try:
        if not sign or not name.isidentifier():
            raise ValueError(text)
        return name, json.loads(value)
    except ValueError as error:
        raise UsageError(
            asked=f"pass --argument {text}",
            found="no NAME=JSON",
            fix="""write numbers as width=16 and texts in quotes, as in 'kind="small"'""",
        ) from error


def _quantity(parse: Callable[[ModuleType], Callable[[str], float]]) -> Callable[[str, str], float]:
    """Parses by a function of `edgeport.recipe.quantities`, which loads all of recipes: only where there is a text."""

    def parsed(text: str, flag: str) -> float:
        from edgeport.recipe import quantities

        try:
            return parse(quantities)(text)
        except quantities.NotAQuantity as error:
            raise UsageError(asked=f"take {flag} {text}", found="none of its kind", fix=f"give {error}") from error

    return parsed


def _median_ns(text: str, flag: str) -> float | None:
    from edgeport.recipe.goals import median_ns

    del flag
    return median_ns(text) if text else None


def _values(text: str, flag: str) -> dict[str, tuple[float, ...]]:
    """Of "width=8,16,32"."""
    del flag
    if not text:
        return {}
    name, _, values = text.partition("=")
    name, sizes = parse_argument(f"{name}=[{values}]")
    return {name: tuple(sizes)}


def parse_samples(text: str) -> Path | str:
    """A file of samples, or the name of a function."""
    return Path(text) if text.endswith(".npz") else text


def _precisions(texts: tuple[str, ...], flag: str) -> dict[str, str]:
    """Name to precision; the last `=` parts them, for a node's name may hold one."""
    chosen: dict[str, str] = {}
    for text in texts:
        name, equals, precision = text.rpartition("=")
        if not equals or not name:
            raise UsageError(asked=f"{flag} {text}", found="no NAME=PRECISION", fix="write --node encoder.layer.0=fp32")
        chosen.pop(name, None)
        chosen[name] = precision
    return chosen


def _processors(text: str, flag: str) -> tuple[int, ...]:
    """Of "0,1"; none for an empty text."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(","))) if text else ()
    except ValueError:
        raise UsageError(
            asked=f"{flag} {text}", found="no list of numbers", fix="write --affinity 0,1, as in /proc/cpuinfo"
        ) from None


def _interval(text: str, flag: str) -> tuple[float, float] | None:
    if not text:
        return None
    low, _, high = text.partition(":")
    try:
        bounds = float(low), float(high)
        if not bounds[0] < bounds[1]:
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(
            asked=f"take {flag} {text}",
            found="no LOW:HIGH",
            fix="give the smallest and the largest value that the model is fed: --range 0:1",
        ) from error
    return bounds


_seconds = _quantity(lambda known: known.parse_seconds)

FORMS: Mapping[str, Callable[[Any, str], Any]] = {
    "arguments": lambda texts, _: dict(parse_argument(text) for text in texts),
    "duration": _quantity(lambda known: known.parse_duration),
    "interval": _interval,
    "median": _median_ns,
    "names": lambda text, _: tuple(name.strip() for name in text.split(",") if name.strip()),
    "nanoseconds": lambda text, flag: 1e9 * _seconds(text, flag),
    "not": lambda given, _: not given,
    "part": _quantity(lambda known: known.parse_part),
    "precisions": _precisions,
    "processors": _processors,
    "rate": _quantity(lambda known: known.parse_rate),
    "seconds": _seconds,
    "samples": lambda text, _: parse_samples(text),
    "share": _quantity(lambda known: known.parse_share),
    "values": _values,
}
"""Form of a text (`Option.parse`) to what makes a value of it; it is told the option too, for errors."""
