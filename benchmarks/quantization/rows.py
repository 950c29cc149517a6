"""What is known of each candidate: rows of JSON values, of which checks are made, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.harness import Table


@dataclass(frozen=True, kw_only=True)
class TimeRow:
    """One process, or two one after the other, over so many samples.

    Attributes:
        model, name: Of the subject, and of the candidate.
        kind: "plain", "ours" or "peer".
        runtime: That the file is for.
        method: How ranges are found ("minmax", ...); empty for a plain pass.
        count: Samples.
        round: Rows of one round were measured one after another.
        why: Empty where it ended well; else "over time", "over memory" or "exit status N".
        told: What it said last, where it did not.
        seconds: Of a plain pass the pass alone; else the whole command.
        peak_bytes: Resident.
        load: Of the machine before it: processes that wanted to run, averaged over a minute.
        at: When, by the clock.

    """

    model: str
    name: str
    kind: str
    runtime: str
    method: str
    count: int
    round: int
    why: str
    told: str
    seconds: float
    peak_bytes: int
    load: float
    at: str


@dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """One candidate over the evaluation samples.

    Attributes:
        model, name, runtime: As in `TimeRow`.
        kind: "float", "ours", "beside" (ours, with other than default settings) or "peer".
        why, told: As in `TimeRow`; it was not built, or does not run.
        sqnr_db: Of the first output against the float model's on ONNX Runtime: power of the signal over that of the
            error, over all values; None where it was not built.
        judged: By metric: "value", the float model's "reference", and the paired "drop" with "low" and "high".
        size_bytes: Of its files.

    """

    model: str
    name: str
    kind: str
    runtime: str
    why: str = ""
    told: str = ""
    sqnr_db: float | None = None
    judged: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """All candidates of a model, timed in turn.

    Attributes:
        model: Of the subject.
        runtimes, kinds: By candidate.
        medians_us: By candidate, of the medians of its processes.
        speedups: By candidate of ours and other candidate: low, estimate and high of the paired 95 % interval; how many
            times as fast ours is.
        rounds: Processes per candidate, those that are left out not counted.
        finalists: Those that were timed beside each other once more; these rounds alone are theirs.
        final_rounds: Processes of each of them.
        disturbed: Rounds that are left out, since others had the processors.
        at: When the last round was measured.

    """

    model: str
    runtimes: Mapping[str, str]
    kinds: Mapping[str, str]
    medians_us: Mapping[str, float]
    speedups: Mapping[str, Mapping[str, tuple[float, float, float]]]
    rounds: int
    finalists: list[str]
    final_rounds: int
    disturbed: int
    at: str


def time_table(rows: Sequence[TimeRow]) -> Table:
    """A line per candidate and number of samples; the median of the rounds."""
    lines = []
    for key in dict.fromkeys((row.model, row.name, row.count) for row in rows):
        same = [row for row in rows if (row.model, row.name, row.count) == key]
        ended = sorted((row for row in same if not row.why), key=lambda row: row.seconds)
        last = same[-1]
        took = f"{ended[len(ended) // 2].seconds:.1f}" if ended else f"{last.why} after {last.seconds:.0f} s"
        peak = max(row.peak_bytes for row in same) / 1e6
        lines.append((key[0], key[1], str(key[2]), took, f"{peak:.0f}", f"{last.load:.1f}", last.at))
    columns = ("model", "quantizer", "samples", "seconds", "peak MB", "load before", "measured")
    return Table(title="Time and memory", columns=columns, rows=tuple(lines))


def accuracy_table(rows: Sequence[AccuracyRow]) -> Table:
    """A line per candidate."""
    lines = []
    for row in rows:
        judged = "; ".join(
            f"{name} {one['value']:.4f}, drop {one['low']:.4f}..{one['high']:.4f}" for name, one in row.judged.items()
        )
        sqnr = "" if row.sqnr_db is None else f"{row.sqnr_db:.2f}"
        size = f"{row.size_bytes / 1e6:.2f}" if row.size_bytes else ""
        lines.append((row.model, row.name, sqnr, judged or f"{row.why}: {row.told}", size))
    return Table(title="Accuracy", columns=("model", "candidate", "SQNR dB", "metric", "MB"), rows=tuple(lines))


def latency_table(rows: Sequence[LatencyRow]) -> Table:
    """A line per candidate, and how many times as fast ours with default settings is on the same runtime."""
    lines = []
    for row in rows:
        for name, median in sorted(row.medians_us.items(), key=lambda item: item[1]):
            ours = [
                one
                for one in row.speedups
                if row.runtimes[one] == row.runtimes[name] and row.kinds[one] == "ours" and name in row.speedups[one]
            ]
            against = row.speedups[ours[0]][name] if ours else None
            told = f"{against[1]:.2f} ({against[0]:.2f}..{against[2]:.2f})" if against else ""
            processes = row.final_rounds if name in row.finalists else row.rounds
            lines.append((row.model, name, str(processes), f"{median:.1f}", told))
    columns = ("model", "candidate", "processes", "median us", "Edgeport's int8 is so many times as fast")
    return Table(title="Latency", columns=columns, rows=tuple(lines))
