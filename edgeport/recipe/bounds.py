"""What a measurement may be held to, as people write it: "p99=20ms", "throughput=200/s", "memory=300MB"."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from enum import StrEnum

from edgeport.errors import ContractError, UsageError
from edgeport.recipe.quantities import NotAQuantity, parse_bytes, parse_latency, parse_rate, parse_time

__all__ = ["Bound", "BoundKind", "parse_bound", "shown"]

_FORMS = "p99=20ms, throughput=200/s, memory=300MB, size=10MB or first-inference=1s"
_WRITTEN = re.compile(r"\s*([A-Za-z][A-Za-z0-9._-]*)\s*(<=|≤|>=|≥|=|<|>)\s*(.+?)\s*")
_QUANTILE = re.compile(r"[pP]\d+(\.\d+)?")
_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


class BoundKind(StrEnum):
    """What is bounded, and in which unit."""

    LATENCY = "latency"
    """A quantile of it, nanoseconds at most."""
    THROUGHPUT = "throughput"
    """Samples per second at least."""
    MEMORY = "memory"
    """Largest resident size, bytes at most."""
    SIZE = "size"
    """Of the artifact's files, bytes at most."""
    FIRST_INFERENCE = "first-inference"
    """Nanoseconds at most."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One line of a budget.

    Attributes:
        kind: What is bounded.
        limit: In the unit of the kind.
        q: Quantile of a latency, 0..1; the median where the kind has no quantiles.

    """

    kind: BoundKind
    limit: float
    q: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.limit < math.inf and 0 < self.q < 1):
            raise ContractError(
                asked=f"hold {self.kind} to {self.limit} at quantile {self.q}",
                found="no positive limit, or a quantile outside 0..1",
                fix="give a limit above 0 and a quantile between 0 and 1",
            )

    def __str__(self) -> str:
        """As a person says it: "p99 at most 20 ms"."""
        name = f"p{100 * self.q:g}" if self.kind is BoundKind.LATENCY else self.kind.replace("-", " ")
        return f"{name} at {'least' if self.kind is BoundKind.THROUGHPUT else 'most'} {shown(self.kind, self.limit)}"


def parse_bound(text: str) -> Bound:
    """The bound that "p99=20ms" states; "=" and "<=" (">=" for a throughput) mean the same.

    Raises:
        UsageError: It states none.

    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise _not_a_bound(text, "no NAME=LIMIT", f"write it as {_FORMS}")
    name, sign, limit = match[1], match[2], match[3]
    latency = _QUANTILE.fullmatch(name) is not None
    if not latency and name not in set(BoundKind) - {BoundKind.LATENCY}:
        near = difflib.get_close_matches(name, [str(kind) for kind in BoundKind if kind is not BoundKind.LATENCY], n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"write it as {_FORMS}"
        raise _not_a_bound(text, f"{name!r}, which is no quantity", fix)
    kind = BoundKind.LATENCY if latency else BoundKind(name)
    if sign in (("<=", "≤", "<") if kind is BoundKind.THROUGHPUT else (">=", "≥", ">")):
        side = "at least" if kind is BoundKind.THROUGHPUT else "at most"
        raise _not_a_bound(text, f"the sign {sign!r}", f'a {kind} is held to {side}: write "{name}={limit}"')
    try:
        return _bound(kind, name, limit)
    except (NotAQuantity, ContractError) as error:
        fix = str(error) if isinstance(error, NotAQuantity) else "a limit above 0"
        raise _not_a_bound(text, f"the limit {limit!r}", f"give {fix}") from error


def _bound(kind: BoundKind, name: str, limit: str) -> Bound:
    if kind is BoundKind.LATENCY:
        q, limit_ns = parse_latency(f"{name} {limit}")
        return Bound(kind=kind, limit=limit_ns, q=q)
    if kind is BoundKind.THROUGHPUT:
        return Bound(kind=kind, limit=parse_rate(limit))
    parse = parse_time if kind is BoundKind.FIRST_INFERENCE else parse_bytes
    return Bound(kind=kind, limit=parse(limit))


def _not_a_bound(text: str, found: str, fix: str) -> UsageError:
    return UsageError(asked=f"keep to the budget {text!r}", found=found, fix=fix)


def shown(kind: BoundKind, value: float) -> str:
    """A value in the unit that fits it: "18.2 ms", "300 MB", "200 per s"."""
    if kind is BoundKind.THROUGHPUT:
        return f"{value:.4g} per s" if value < 1e4 else f"{value:.0f} per s"
    units = _SIZES if kind in (BoundKind.MEMORY, BoundKind.SIZE) else _TIMES
    scale, unit = next((pair for pair in units if value >= pair[0]), units[-1])
    return f"{value / scale:.4g} {unit}" if math.isfinite(value) else "any"
