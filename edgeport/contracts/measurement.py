"""Raw latency traces. Statistics are computed from these, again and again; nothing is averaged away here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeport.errors import ContractError

__all__ = ["Measurement", "ProcessTrace", "TelemetrySample", "TimerFacts"]


@dataclass(frozen=True, kw_only=True)
class TimerFacts:
    """The clock that the calls were timed with.

    Attributes:
        clock: Its name ("CLOCK_MONOTONIC").
        resolution_ns: Step of the clock.
        overhead_ns: Median cost of timing nothing.

    """

    clock: str
    resolution_ns: int
    overhead_ns: int


@dataclass(frozen=True, kw_only=True)
class TelemetrySample:
    """One reading of the machine's sensors; a value that is not there is absent, never assumed quiet.

    Attributes:
        at_ns: On the clock of the trace.
        values: By name with unit ("cpu0_freq_khz", "steal_ticks", "involuntary_switches").

    """

    at_ns: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ProcessTrace:
    """One process: load, first inference, warm-up and timed calls, never merged.

    Attributes:
        artifact_digest: Of what was run, computed on the device.
        round: Round of the experiment; the arms of a round are neighbours in time.
        position: Place of this process within its round.
        import_ns: Importing the session module and the runtime.
        load_ns: Opening the artifact, without the import.
        cold: The artifact was read from the disk.
        first_inference_ns: The first call.
        warmup_ns: The calls before steady state was looked for.
        latency_ns: The timed readings, in order.
        calls_per_reading: Calls in one reading; more than 1 where the clock is too coarse for one.
        scenario: See `TimeJob`; in "server" a latency counts from when the query was due.
        samples: How many were run while timed; 0 where it was not counted.
        elapsed_ns: From the start of the first timed call to the end of the last; 0 where it was not taken.
        started_at_ns: Start of the first timed reading on the trace's clock.
        peak_memory_bytes: Largest resident size, of all processes that run the model; 0 where the device does not tell.
        timer: The clock.
        telemetry: Readings of sensors while it ran.
        outputs_match: Outputs of timed calls equal the reference within the job's tolerance; None where none was given.
        output_difference: Largest |output - reference| relative to the largest |reference|; None where it
            has no meaning.
        flags: Everything that went wrong or was unusual, as stable names ("clock-step", "nan-output").

    """

    artifact_digest: str
    round: int
    position: int
    import_ns: int = 0
    load_ns: int
    cold: bool = False
    first_inference_ns: int
    warmup_ns: tuple[int, ...]
    latency_ns: tuple[int, ...]
    calls_per_reading: int = 1
    scenario: str = "single-stream"
    samples: int = 0
    elapsed_ns: int = 0
    started_at_ns: int = 0
    peak_memory_bytes: int = 0
    timer: TimerFacts
    telemetry: tuple[TelemetrySample, ...] = ()
    outputs_match: bool | None = None
    output_difference: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Every process of one artifact in one experiment.

    Attributes:
        artifact_digest: All traces must carry it.
        device: Digest of the device facts.
        seed: Of the random order.
        traces: One per process.
        flags: Of the experiment as a whole.

    """

    artifact_digest: str
    device: str
    seed: int
    traces: tuple[ProcessTrace, ...]
    flags: tuple[str, ...] = ()
    schema_version: int = field(default=1)

    def __post_init__(self) -> None:
        foreign = {trace.artifact_digest for trace in self.traces} - {self.artifact_digest}
        if foreign:
            raise ContractError(
                asked=f"keep a measurement of artifact {self.artifact_digest[:12]}",
                found=f"traces of {', '.join(sorted(digest[:12] for digest in foreign))}",
                fix="measure again; the artifact changed on its way to the device",
            )
