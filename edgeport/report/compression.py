"""What each step of [[compress]] gave and cost, a row each, ready to print."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.contracts import Candidate, CompressedBy, RunResult
from edgeport.report.figures import AccuracyUnit, LatencyUnit, bytes_text, gain_interval_text, speedup_text
from edgeport.report.rows import ABSENT, Cell, quantile_cell

__all__ = ["StepRow", "step_rows"]

_SHORTEST_S = 60.0


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """The model as it is, or after one step and all before it.

    Attributes:
        step: What was done.
        shown_by: The candidate whose numbers these are; empty where there is none.
        accuracy, p50, size: Of that candidate.
        gain: Its speed over the model as it is, in pairs.
        took: By the step, when it was done.
        said: Its own words, a sentence each.
        problem: Why it gave nothing; empty where it did.
        ships: It is what ships.

    """

    step: str
    shown_by: str
    accuracy: Cell
    p50: Cell
    gain: Cell
    size: str
    took: str
    said: tuple[str, ...]
    problem: str
    ships: bool


def step_rows(result: RunResult, latency: LatencyUnit, accuracy: AccuracyUnit) -> list[StepRow]:
    """Of a result, in the order of its steps; none where the recipe has no step."""
    by_name = {candidate.name: candidate for candidate in result.candidates}
    return [_row(one, by_name.get(one.candidate), result, latency, accuracy) for one in result.compression]


def _row(
    one: CompressedBy, shown: Candidate | None, result: RunResult, latency: LatencyUnit, accuracy: AccuracyUnit
) -> StepRow:
    judged = shown.accuracy if shown is not None else None
    timed = shown.latency if shown is not None else None
    gain = Cell()
    if one is result.compression[0]:
        gain = Cell(value="1")
    elif one.against is not None:
        gain = Cell(value=speedup_text(one.against.speedup), detail=gain_interval_text(one.against.speedup))
    return StepRow(
        step=one.step,
        shown_by=one.candidate,
        accuracy=Cell(value=accuracy.text(judged.value.estimate), detail=accuracy.span(judged.value))
        if judged
        else Cell(),
        p50=quantile_cell(timed.quantile(0.5), latency) if timed else Cell(),
        gain=gain,
        size=bytes_text(shown.artifact.size_bytes) if shown is not None and shown.artifact else ABSENT,
        took=_took(one.seconds),
        said=one.said,
        problem=one.problem or _refused(shown),
        ships=bool(one.candidate) and one.candidate == result.chosen,
    )


def _refused(shown: Candidate | None) -> str:
    """Why a candidate has no numbers."""
    if shown is None or shown.latency is not None or shown.refusal is None:
        return ""
    return f"{shown.name}: {shown.refusal.reason}"


def _took(seconds: float) -> str:
    if seconds <= 0:
        return ABSENT
    return f"{seconds:.0f} s" if seconds < 2 * _SHORTEST_S else f"{seconds / _SHORTEST_S:.0f} min"
