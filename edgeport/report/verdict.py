"""The verdict in words, and the few numbers that stand beside it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.contracts import Candidate, Outcome, RunResult
from edgeport.report.confirmation import again_mark, hardest_float
from edgeport.report.figures import AccuracyUnit, LatencyUnit, bytes_text, gain_interval_text, speedup_text
from edgeport.report.flags import flag_notes, thin_evidence

__all__ = ["NOTHING", "Headline", "Tile", "headline"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One number.

    Attributes:
        value: As shown.
        label: What it is.
        detail: Its interval, or what it is compared with.

    """

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What a reader in a hurry reads.

    Attributes:
        title: What ships.
        sentences: How much better it is, and how sure that is.
        tiles: The numbers.

    """

    title: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


NOTHING = {
    Outcome.PASS: "no candidate was left to ship",
    Outcome.FAIL: "no candidate keeps to the budget",
    Outcome.INCONCLUSIVE: "the measurements are too thin to tell whether a candidate keeps to the budget",
    Outcome.INVALID: "the measurements must not be believed",
    Outcome.UNMEASURED: "nothing here can run the candidates",
}


_AS_GIVEN = ("It came quantized and was not quantized again: each runtime got the file as it is.",)


def headline(result: RunResult, latency: LatencyUnit, accuracy: AccuracyUnit) -> Headline:
    """The verdict of a run."""
    if not result.chosen:
        return Headline(
            title="Nothing ships",
            sentences=(f"Because {NOTHING[result.outcome]}.", "Each candidate's reason is in the table."),
            tiles=(),
        )
    chosen = result.candidate(result.chosen)
    best = result.candidate(result.best_float) if result.best_float else None
    hardest = hardest_float(result)
    return Headline(
        title=f"{chosen.name} ships",
        sentences=(
            *(_AS_GIVEN if result.as_given else _speed(chosen, best, hardest)),
            *_accuracy(chosen, accuracy),
            *_doubt(chosen),
        ),
        tiles=_tiles(chosen, best, latency, accuracy, hardest),
    )


def _speed(chosen: Candidate, best: Candidate | None, hardest: str) -> tuple[str, ...]:
    if best is None:
        return ("No float candidate ran, so there is nothing to compare its speed with.",)
    if chosen.name == best.name:
        return ("It is the fastest float; no quantized candidate was certainly faster within the budget.",)
    if chosen.against_float is None:
        return ()
    speedup = chosen.against_float.speedup
    confidence = f"{100 * speedup.confidence:.0f} % interval {gain_interval_text(speedup)}"
    pairs = f"from {chosen.against_float.pairs} fresh pairs of processes"
    which = "the best float" if hardest == best.name else "the float that was hardest to beat"
    return (f"It runs {speedup.estimate:.2f} times as fast as {hardest}, {which} ({confidence}, {pairs}).",)


def _doubt(chosen: Candidate) -> tuple[str, ...]:
    """That its absolute latency must not be relied on, and why."""
    timed = chosen.latency
    if timed is None or timed.outcome is Outcome.PASS:
        return ()
    grave = [note.words for note in flag_notes(timed.flags) if note.outcome is not Outcome.PASS]
    why = "; ".join(grave) or thin_evidence(timed)
    paired = " The gain is paired, so both sides saw the same." if chosen.against_float is not None else ""
    return (f"Its latency as an absolute number is {timed.outcome.value}: {why}.{paired}",)


def _accuracy(chosen: Candidate, unit: AccuracyUnit) -> tuple[str, ...]:
    if chosen.accuracy is None:
        return ("Its accuracy was not judged.",)
    drop, samples = chosen.accuracy.drop, chosen.accuracy.samples
    reference = chosen.accuracy.reference or "the float model"
    span = f"{100 * drop.confidence:.0f} % interval of the loss {unit.span(drop)}, {samples:,} samples"
    shown = unit.number(abs(drop.estimate))
    if float(shown) == 0:
        return (f"Its {chosen.accuracy.metric} equals that of {reference} ({span}).",)
    verb = "loses" if drop.estimate > 0 else "gains"
    return (f"It {verb} {shown} {unit.difference} of {chosen.accuracy.metric} against {reference} ({span}).",)


def _tiles(
    chosen: Candidate, best: Candidate | None, latency: LatencyUnit, accuracy: AccuracyUnit, hardest: str
) -> tuple[Tile, ...]:
    tiles = []
    if best is not None and chosen.name != best.name and chosen.against_float is not None:
        speedup = chosen.against_float.speedup
        label = "the best float's speed" if hardest == best.name else f"the speed of {hardest}"
        tiles.append(Tile(value=speedup_text(speedup), label=label, detail=gain_interval_text(speedup)))
    if chosen.latency is not None:
        median = chosen.latency.quantile(0.5).interval_ns
        if median is not None:
            value = latency.text(median.estimate)
            screened = ", when screened" if again_mark(chosen) else ""
            tiles.append(Tile(value=value, label=f"median latency (p50){screened}", detail=latency.span(median)))
    if chosen.accuracy is not None:
        value = accuracy.text(chosen.accuracy.value.estimate)
        tiles.append(Tile(value=value, label=chosen.accuracy.metric, detail=accuracy.span(chosen.accuracy.value)))
    if chosen.artifact is not None:
        tiles.append(_size(chosen, best))
    return tuple(tiles)


def _size(chosen: Candidate, best: Candidate | None) -> Tile:
    size = chosen.artifact.size_bytes if chosen.artifact else 0
    detail = ""
    if best is not None and best.artifact is not None and best.name != chosen.name:
        detail = f"best float: {bytes_text(best.artifact.size_bytes)}"
    return Tile(value=bytes_text(size), label="artifact size", detail=detail)
