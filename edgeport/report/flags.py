"""What is unusual about a measurement, in words, and what that does to its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeport.contracts import LatencySummary, Outcome
from edgeport.devices.latency.validity_flags import explain, outcome_of

__all__ = ["FlagNote", "flag_notes", "thin_evidence"]

_ORDER = (Outcome.INVALID, Outcome.INCONCLUSIVE, Outcome.PASS)


@dataclass(frozen=True, kw_only=True)
class FlagNote:
    """One flag.

    Attributes:
        flag: Its stable name.
        words: What it means.
        outcome: What it forces: INVALID, INCONCLUSIVE, or PASS for none.

    """

    flag: str
    words: str
    outcome: Outcome


def flag_notes(flags: Iterable[str]) -> tuple[FlagNote, ...]:
    """Each flag explained, the gravest first."""
    notes = [FlagNote(flag=flag, words=explain(flag), outcome=outcome_of([flag])) for flag in flags]
    return tuple(sorted(notes, key=lambda note: (_ORDER.index(note.outcome), note.flag)))


def thin_evidence(summary: LatencySummary) -> str:
    """Why a summary is not PASS though no flag forces that; empty where a flag does, or where it is PASS."""
    if summary.outcome is Outcome.PASS or outcome_of(summary.flags) is not Outcome.PASS:
        return ""
    median = summary.quantile(0.5)
    if median.interval_ns is None:
        return f"there is no median: {median.refused}"
    return f"{100 * summary.steady:.0f} % of the processes came to rest; half of them must"
