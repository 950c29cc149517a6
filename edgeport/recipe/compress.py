"""[[compress]]: what is done to the PyTorch model before it is exported."""

from __future__ import annotations

from edgeport.errors import UsageError
from edgeport.recipe.quantities import NotAQuantity, parse_latency

__all__ = ["median_ns"]


def median_ns(text: str) -> float:
    """Nanoseconds of "p50 <= 5 ms" or "5 ms".

    Raises:
        UsageError: Another quantile, or no latency at all.

    """
    try:
        quantile, limit = parse_latency(text)
    except NotAQuantity as error:
        raise UsageError(asked=f"prune for the latency {text!r}", found="no latency", fix=f"give {error}") from error
    if quantile != 0.5:
        raise UsageError(
            asked=f"prune for the latency {text!r}",
            found="another quantile than the median",
            fix="give the median, and keep the others as a budget of the run",
        )
    return float(limit)
