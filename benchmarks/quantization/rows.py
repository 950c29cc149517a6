"""What is known of each candidate: rows of JSON values, which checks and tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
