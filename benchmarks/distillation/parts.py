"""What a part of this benchmark gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.results import Check, Table

__all__ = ["Part"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part.

    Attributes:
        figures: Every raw figure; JSON values.
        checks: One per claim.
        tables: Of the page.

    """

    figures: Any
    checks: tuple[Check, ...]
    tables: tuple[Table, ...] = ()
