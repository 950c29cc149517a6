"""The page that lists the targets of a run, ready to print."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from edgeport.contracts import DeviceFacts, Outcome, RunResult
from edgeport.report.budget import limits
from edgeport.report.confirmation import AGAIN, again_mark, measured_again
from edgeport.report.figures import bytes_text, gain_interval_text, speedup_text
from edgeport.report.rows import Cell, quantile_cell
from edgeport.report.units import units
from edgeport.report.verdict import NOTHING, Headline, headline

__all__ = ["SummaryRow", "summary_headline", "summary_rows"]


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One target.

    Attributes:
        name: Of the target.
        outcome: Of its budget.
        ships: The candidate; empty where none does.
        latency, gain, accuracy, drop, size: Of that candidate.
        sentences: What its own page says first.
        device: Where it runs.
        limits: Its budget: what is limited, and to what.
        page, bundle: Links, relative to this page; empty where there is none.

    """

    name: str
    outcome: Outcome
    ships: str
    latency: Cell
    gain: Cell
    accuracy: Cell
    drop: Cell
    size: str
    sentences: tuple[str, ...]
    device: DeviceFacts
    limits: list[tuple[str, str]]
    page: str
    bundle: str


def summary_headline(result: RunResult) -> Headline:
    """How many targets have something to ship, and which have not."""
    without = [one for one in result.targets if not one.chosen]
    shipping = len(result.targets) - len(without)
    title = f"{shipping} of {len(result.targets)} targets ship" if without else f"All {shipping} targets ship"
    if len(result.targets) == 1 and not without:
        title = f"{result.targets[0].target} ships"
    sentences = tuple(f"{one.target}: nothing ships, because {NOTHING[one.outcome]}." for one in without)
    return Headline(title=title, sentences=sentences, tiles=())


def summary_rows(result: RunResult) -> list[SummaryRow]:
    """One row per target, in the recipe's order."""
    return [_row(one) for one in result.targets]


def _nearest(one: RunResult) -> tuple[str, ...]:
    """What comes nearest where nothing ships."""
    if not one.nearest:
        return (f"Nothing ships, because {NOTHING[one.outcome]}.",)
    first = one.nearest[0]
    return (f"Nearest is {first.name}: {'; '.join(lack.text for lack in first.lacks)}.",)


def _row(one: RunResult) -> SummaryRow:
    latency, accuracy = units(one)
    again = measured_again(one, latency.text)
    chosen = one.candidate(one.chosen) if one.chosen else None
    timed, judged = (chosen.latency, chosen.accuracy) if chosen is not None else (None, None)
    gain = Cell()
    if chosen is not None and chosen.name == one.best_float:
        gain = Cell(value="1", detail="the best float")
    elif chosen is not None and chosen.against_float is not None:
        speedup = chosen.against_float.speedup
        gain = Cell(value=speedup_text(speedup) + again_mark(chosen), detail=gain_interval_text(speedup))
    return SummaryRow(
        name=one.target,
        outcome=one.outcome,
        ships=one.chosen,
        latency=quantile_cell(timed.quantile(0.5), latency) if timed is not None else Cell(),
        gain=gain,
        accuracy=Cell(value=accuracy.text(judged.value.estimate), detail=accuracy.span(judged.value))
        if judged is not None
        else Cell(),
        drop=Cell(value=accuracy.number(judged.drop.estimate), detail=accuracy.span(judged.drop))
        if judged is not None
        else Cell(),
        size=bytes_text(chosen.artifact.size_bytes) if chosen is not None and chosen.artifact is not None else "",
        device=one.device,
        sentences=(
            *(headline(one, latency, accuracy).sentences if one.chosen else _nearest(one)),
            *([f"{AGAIN} {again}"] if again else []),
        ),
        limits=limits(one.budget, accuracy),
        page=f"{quote(one.target)}/report.html" if one.report is not None else "",
        bundle=f"{quote(one.target)}/bundle/" if one.bundle is not None else "",
    )
