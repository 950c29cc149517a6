"""What the tables show, ready to print."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgeport.contracts import Candidate, NodePlacement, Outcome, Quantile, RunResult
from edgeport.report.confirmation import again_mark
from edgeport.report.figures import AccuracyUnit, LatencyUnit, bytes_text, gain_interval_text, speedup_text
from edgeport.report.flags import FlagNote, flag_notes, thin_evidence
from edgeport.report.style import CandidateStyle

__all__ = ["ABSENT", "Cell", "PlacementRow", "Row", "Share", "placements", "quantile_cell", "rows"]

ABSENT = "–"  # noqa: RUF001 (a dash for what there is not)
_INTEGER = "int8"
_IN_WORDS = {
    "ACCURACY": "too inaccurate",
    "BACKEND_CRASH": "crashed",
    "BASELINE": "baseline",
    "BACKEND_UNSUPPORTED": "not available",
    "BUDGET": "over budget",
    "CHILD_CRASH": "crashed",
    "CONFIRMATION_INVALID": "invalid",
    "DEPENDENCY_MISSING": "not installed",
    "NOT_AS_PLANNED": "not as planned",
    "PLACEMENT": "not as planned",
    "NOT_FASTEST": "not the fastest",
    "NO_GAIN": "no sure gain",
    "RESOURCE_LIMIT": "out of memory",
    "SLOWER": "slower",
    "TIMEOUT": "timed out",
    "UNCONFIRMED": "not confirmed",
    "WRONG_OUTPUT": "wrong output",
}
"""Of refusals; any other one is "refused"."""
_BROKEN = ("BACKEND_CRASH", "CHILD_CRASH", "RESOURCE_LIMIT", "TIMEOUT", "WRONG_OUTPUT")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value, and under it its interval or why there is none."""

    value: str = ABSENT
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate.

    Attributes:
        verdict: What became of it, in a word or two.
        kind: "ships", "float", "ok", "refused", "invalid" or "open"; picks the colour of the verdict.
        code, reason: Of its refusal; empty for what ships.
        doubt: Outcome of its latency: PASS, INCONCLUSIVE or INVALID.
        thin: Why its latency is in doubt where no flag says so.
        flags: Of its latency, the gravest first.

    """

    name: str
    look: CandidateStyle
    ran_as: str
    accuracy: Cell
    drop: Cell
    p50: Cell
    p90: Cell
    gain: Cell
    size: str
    verdict: str
    kind: str
    code: str
    reason: str
    doubt: Outcome
    thin: str
    flags: tuple[FlagNote, ...]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part of a candidate's computing nodes that ran in one precision; `percent` is 0..100."""

    precision: str
    count: int
    percent: float


@dataclass(frozen=True, kw_only=True)
class PlacementRow:
    """Where one candidate's nodes ran."""

    name: str
    look: CandidateStyle
    summary: str
    source: str
    shares: tuple[Share, ...]
    nodes: tuple[NodePlacement, ...]
    hidden: int


def rows(result: RunResult, seen: dict[str, CandidateStyle], latency: LatencyUnit, accuracy: AccuracyUnit) -> list[Row]:
    """One row per candidate, in the result's order."""
    return [_row(candidate, result, seen[candidate.name], latency, accuracy) for candidate in result.candidates]


def _row(
    candidate: Candidate, result: RunResult, look: CandidateStyle, latency: LatencyUnit, accuracy: AccuracyUnit
) -> Row:
    judged, timed = candidate.accuracy, candidate.latency
    verdict, kind = _verdict(candidate, result)
    return Row(
        name=candidate.name,
        look=look,
        ran_as=candidate.placement.summary() if candidate.placement and candidate.placement.nodes else ABSENT,
        accuracy=Cell(value=accuracy.text(judged.value.estimate), detail=accuracy.span(judged.value))
        if judged
        else Cell(),
        drop=Cell(value=accuracy.number(judged.drop.estimate), detail=accuracy.span(judged.drop)) if judged else Cell(),
        p50=quantile_cell(timed.quantile(0.5), latency) if timed else Cell(),
        p90=quantile_cell(timed.quantile(0.9), latency) if timed else Cell(),
        gain=_gain(candidate, result),
        size=bytes_text(candidate.artifact.size_bytes) if candidate.artifact else ABSENT,
        verdict=verdict,
        kind=kind,
        code=candidate.refusal.code if candidate.refusal else "",
        reason=candidate.refusal.reason if candidate.refusal else "",
        doubt=timed.outcome if timed else Outcome.PASS,
        thin=thin_evidence(timed) if timed else "",
        flags=flag_notes(timed.flags) if timed else (),
    )


def quantile_cell(quantile: Quantile, unit: LatencyUnit) -> Cell:
    """The quantile with its interval, or why there is none."""
    if quantile.interval_ns is None:
        return Cell(detail=quantile.refused)
    return Cell(value=unit.text(quantile.interval_ns.estimate), detail=unit.span(quantile.interval_ns))


def _gain(candidate: Candidate, result: RunResult) -> Cell:
    if candidate.name == result.best_float:
        return Cell(value="1", detail="the fastest" if result.as_given else "the best float")
    if candidate.against_float is None:
        return Cell()
    speedup = candidate.against_float.speedup
    return Cell(value=speedup_text(speedup) + again_mark(candidate), detail=gain_interval_text(speedup))


def _verdict(candidate: Candidate, result: RunResult) -> tuple[str, str]:
    """In words, and its kind; the first rule that fits."""
    code = candidate.refusal.code if candidate.refusal else ""
    rules = (
        (candidate.name == result.chosen, "ships", "ships"),
        (candidate.name == result.best_float, "fastest" if result.as_given else "best float", "float"),
        (code in _BROKEN, _IN_WORDS.get(code, ""), "invalid"),
        (code in _IN_WORDS, _IN_WORDS.get(code, ""), "refused"),
        (candidate.outcome is Outcome.UNMEASURED, "built, not run" if candidate.artifact else "not run", "open"),
        (candidate.outcome is Outcome.INCONCLUSIVE, "inconclusive", "open"),
        (candidate.outcome is Outcome.INVALID, "invalid", "invalid"),
        (bool(code), "refused", "refused"),
        (True, candidate.outcome.value, "ok"),
    )
    return next((words, kind) for fits, words, kind in rules if fits)


def placements(result: RunResult, seen: dict[str, CandidateStyle], most: int = 400) -> list[PlacementRow]:
    """One row per candidate whose runtime told; at most so many nodes of each."""
    found = []
    for candidate in result.candidates:
        placement = candidate.placement
        if placement is None:
            continue
        counts = Counter(node.precision for node in placement.nodes if node.precision)
        total = max(1, counts.total())
        # Integers first: whether they are as many as planned is what the bar is looked at for.
        ordered = sorted(counts.items(), key=lambda item: (item[0] != _INTEGER, -item[1], item[0]))
        found.append(
            PlacementRow(
                name=candidate.name,
                look=seen[candidate.name],
                summary=placement.summary(),
                source=placement.source,
                shares=tuple(Share(precision=p, count=c, percent=100 * c / total) for p, c in ordered),
                nodes=placement.nodes[:most],
                hidden=max(0, len(placement.nodes) - most),
            )
        )
    return found
