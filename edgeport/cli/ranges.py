"""Ranges of values, as options spell them."""

from __future__ import annotations

from edgeport.errors import UsageError

__all__ = ["value_range"]


def value_range(text: str) -> tuple[float, float] | None:
    """Of "LOW:HIGH"; None for an empty text.

    Raises:
        UsageError: Neither.

    """
    if not text:
        return None
    low, _, high = text.partition(":")
    try:
        found = float(low), float(high)
        if not found[0] < found[1]:
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(
            asked=f"take --range {text}",
            found="no LOW:HIGH",
            fix="give the smallest and the largest value that the model is fed: --range 0:1",
        ) from error
    return found
