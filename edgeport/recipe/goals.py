"""How far a step goes: "macs <= 50 %", "2x", "p50 <= 5 ms"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeport.errors import UsageError
from edgeport.recipe.quantities import NotAQuantity, parse_latency, parse_share

if TYPE_CHECKING:
    from edgeport.contracts import PruneStep, StudentStep
    from edgeport.recipe.errors import KeyPath, RecipeText

__all__ = ["goal_at", "goal_text", "median_ns", "read_goal"]


def median_ns(text: str) -> float:
    """Nanoseconds of "p50 <= 5 ms" or "5 ms".

    Raises:
        UsageError: Another quantile, or no latency at all.

    """
    try:
        quantile, limit = parse_latency(text)
    except NotAQuantity as error:
        raise UsageError(asked=f"reach the latency {text!r}", found="no latency", fix=f"give {error}") from error
    if quantile != 0.5:
        raise UsageError(
            asked=f"reach the latency {text!r}",
            found="another quantile than the median",
            fix="give the median, and keep the others as a budget of the run",
        )
    return float(limit)


def read_goal(text: str) -> dict[str, float]:
    """The goal of a step, by the name of its field, that "macs <= 50 %", "2x" or "p50 <= 5 ms" says.

    Raises:
        UsageError: None of these.

    """
    speedup = re.fullmatch(r"\s*(?:speedup\s*(?:>=)?\s*)?(\d+(?:\.\d+)?)\s*[x×]\s*", text)  # noqa: RUF001 (people write it)
    if speedup is not None:
        return {"speedup": float(speedup[1])}
    macs = re.fullmatch(r"\s*macs\s*(?:<=|≤|<)\s*(.*)", text)
    if macs is not None:
        try:
            return {"amount": 1.0 - parse_share(macs[1])}
        except NotAQuantity as error:
            raise UsageError(asked=f"reach {text!r}", found="no share", fix=f"give {error}") from error
    return {"latency_ns": median_ns(text)}


def goal_at(recipe: RecipeText, key: KeyPath, text: str | None) -> dict[str, float]:
    """As `read_goal`, of what stands at a key of a recipe; nothing where nothing does.

    Raises:
        RecipeError: None of these.

    """
    if text is None:
        return {}
    try:
        return read_goal(text)
    except UsageError as error:
        raise recipe.wrong_value(key, f"is {error.found}", error.fix) from error


def goal_text(step: PruneStep | StudentStep) -> str | None:
    """The other way, of a goal that is measured; None for no such goal."""
    if step.latency_ns is not None:
        return f"p50 <= {step.latency_ns:.15g} ns"
    return f"{step.speedup:.15g}x" if step.speedup is not None else None
