"""What is known of a number: an interval and an outcome, never a bare mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edgeport.errors import ContractError

__all__ = [
    "AccuracyResult",
    "BoundVerdict",
    "Change",
    "Comparison",
    "Endurance",
    "Energy",
    "Interval",
    "LatencySummary",
    "Outcome",
    "Quantile",
    "Roof",
    "Roofline",
    "Throughput",
    "Work",
]


class Outcome(StrEnum):
    """Of a check against a budget."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """The evidence is too thin to say."""
    INVALID = "invalid"
    """The evidence must not be used."""
    UNMEASURED = "unmeasured"
    """Built, but nothing here can run it."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate between its bounds.

    Attributes:
        low, estimate, high: In the unit of what they bound.
        confidence: Probability that the method covers the truth, 0..1.

    """

    low: float
    estimate: float
    high: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if math.isnan(self.estimate) or not self.low <= self.estimate <= self.high:
            raise ContractError(
                asked="state an interval",
                found=f"{self.low} <= {self.estimate} <= {self.high} does not hold",
                fix="report this as a fault in Edgeport",
            )


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """A latency quantile, or why there is none.

    Attributes:
        q: 0..1 (0.5 is the median).
        interval_ns: Nanoseconds; None where the sample is too small or too coarse.
        refused: Why there is none.

    """

    q: float
    interval_ns: Interval | None
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What a sample costs above the machine at rest, or why that is not known.

    Attributes:
        per_sample_j: Joules; None where it was not measured.
        idle_w: Watts of the machine at rest with the model loaded; None where it was not measured.
        source: Which meter ("rapl0", "nvml0", "ina3221 power1"); empty where there is none.
        refused: Why there is no number.

    """

    per_sample_j: Interval | None = None
    idle_w: float | None = None
    source: str = ""
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one call must do at the least, counted from the graph.

    Attributes:
        operations: Multiplications and additions of its products and convolutions (twice the multiply-adds).
        bytes: Weights, inputs and outputs, each read or written once.

    """

    operations: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Roof:
    """How fast a device is at its best, measured there (Williams, Waterman and Patterson 2009).

    Attributes:
        operations_per_s: Of a large matrix product in the precision and with the threads in question.
        bytes_per_s: Of reading an array as large as the work's bytes, so that what fits a cache counts as such.
        source: How it was measured, for tables.

    """

    operations_per_s: float
    bytes_per_s: float
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A latency against what the device can do.

    Attributes:
        least_ns: max(operations / peak, bytes / bandwidth): no call can take less.
        bound: "compute" or "memory", whichever of the two is longer.
        share: `least_ns` over the measured median; 1 is the roof.
        work, roof: What it was computed from.

    """

    least_ns: float
    bound: str
    share: float
    work: Work
    roof: Roof


@dataclass(frozen=True, kw_only=True)
class Endurance:
    """How fast one long process was at first, and in the end.

    Attributes:
        burst_ns: Latency of a call in the beginning, as the device came to it.
        sustained_ns: In the last third of the time.
        duration_s: Of all calls.
        slowed_after_s: When it became more than 5 % slower than in the beginning, and stayed so; None where it did not.
        first_celsius, hottest_celsius: Of the hottest sensor, at first and ever; None where none can be read.
        throttled: The device said so of itself. That it did not say so proves nothing where it has no such source.

    """

    burst_ns: Interval
    sustained_ns: Interval
    duration_s: float
    slowed_after_s: float | None = None
    first_celsius: float | None = None
    hottest_celsius: float | None = None
    throttled: bool = False

    @property
    def retention(self) -> float:
        """Sustained over burst speed, 1 where nothing is lost."""
        return self.burst_ns.estimate / self.sustained_ns.estimate


@dataclass(frozen=True, kw_only=True)
class LatencySummary:
    """What the traces of one artifact say.

    Attributes:
        quantiles: p50 first.
        processes, calls: How many there were.
        effective_calls: As many independent calls would say as much.
        correlation_time: tau; 1 for independent calls.
        steady: Part of the processes that reached steady state, 0..1.
        load_ns, first_inference_ns: Medians over the processes whose files lay in memory.
        first_load_ns: Of the first process, whose files were read from the disk; None where that was not tried.
        peak_memory_bytes: Largest over the processes; 0 where the device does not tell.
        scenario: See `TimeJob`.
        throughput_per_s: Samples per second, over processes; None where they were not counted.
        energy: Above the machine at rest; None where it was not asked for.
        roofline: Against the device's own peak; None where that was not measured.
        outcome: INVALID where the numbers must not be used.
        flags: Why.

    """

    quantiles: tuple[Quantile, ...]
    processes: int
    calls: int
    effective_calls: float
    correlation_time: float
    steady: float
    load_ns: float
    first_inference_ns: float
    peak_memory_bytes: int
    outcome: Outcome
    flags: tuple[str, ...] = ()
    first_load_ns: float | None = None
    scenario: str = "single-stream"
    throughput_per_s: Interval | None = None
    energy: Energy | None = None
    roofline: Roofline | None = None

    def quantile(self, q: float) -> Quantile:
        """The quantile `q`; refused where it was not computed."""
        for quantile in self.quantiles:
            if math.isclose(quantile.q, q):
                return quantile
        return Quantile(q=q, interval_ns=None, refused="was not asked for")


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Samples per second with several calls at once, each as fast as it can ("offline", see `TimeJob`).

    Attributes:
        per_s: Over processes; None where there are too few.
        streams: Calls at once.
        processes: How many there were.
        flags: Those that leave it open, or forbid its use.
        outcome: PASS, or what the flags force.

    """

    per_s: Interval | None
    streams: int
    processes: int
    flags: tuple[str, ...] = ()
    outcome: Outcome = Outcome.PASS


@dataclass(frozen=True, kw_only=True)
class BoundVerdict:
    """One bound of a budget against all traces of an artifact.

    Attributes:
        of: What is bounded: a quantile ("p90"), "size", "peak memory", "first inference" or "throughput".
        limit: In nanoseconds, bytes or samples per second.
        outcome: PASS, FAIL, INCONCLUSIVE or INVALID.
        interval: In the unit of the limit, without width where the value is counted; None where it is not known.
        flags: Those that leave it open, or forbid its use.
        reason: In a sentence.

    """

    of: str
    limit: float
    outcome: Outcome
    interval: Interval | None = None
    flags: tuple[str, ...] = ()
    reason: str = ""


class Change(StrEnum):
    """Of B against A, from paired processes."""

    FASTER = "faster"
    IMPROVED = "improved"
    """Faster by more than the device's own delta."""
    SLOWER = "slower"
    REGRESSED = "regressed"
    """Slower by more than the device's own delta."""
    EQUIVALENT = "equivalent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """B against A.

    Attributes:
        speedup: Latency of A over latency of B; above 1, B is faster.
        change: In words.
        pairs: Number of process pairs.
        delta: The difference that A against A shows on this device, as a fraction.
        against: Name of A, where it has one.
        again_ns: Where both were measured again for this comparison alone, apart from all other candidates: what a call
            took then, of A and of B by name (the median over processes of their medians); else empty.

    """

    speedup: Interval
    change: Change
    pairs: int
    delta: float
    against: str = ""
    again_ns: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AccuracyResult:
    """A metric on the evaluation set, and its drop against the float model, both with intervals.

    Attributes:
        metric: Its name ("top1").
        value: Of this candidate, higher is better.
        drop: Reference minus candidate, paired over samples; above 0 is a loss.
        samples: Number of evaluation samples.
        outcome: Of the drop against the budget.
        reason: In a sentence, where it is not PASS.
        reference: What it was compared with ("PyTorch float32").
        details: More numbers, by name (SQNR in dB, largest error).

    """

    metric: str
    value: Interval
    drop: Interval
    samples: int
    outcome: Outcome
    reason: str = ""
    reference: str = ""
    details: Mapping[str, float] = field(default_factory=dict)
