"""How long is searched for the way in which a model is best run, and for what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeport.options.artifacts import DeviceOptions, PreprocessOptions
from edgeport.options.declare import option

__all__ = ["ExecutionTuneOptions", "ScheduleOptions", "TuneOptions"]


@dataclass(frozen=True, kw_only=True)
class TuneOptions(DeviceOptions):
    """Of `edgeport.api.tune`.

    Attributes:
        backend: Of a recipe's target, the first with int8 in its precisions if empty; or that runs an `.onnx` file,
            ONNX Runtime if empty.
        time_s: Of the search and what is measured in the end, what earlier runs of the same search spent counts too;
            without what is done before (an export, a calibration). None for the `tune` of a recipe's target, or 300.

    """

    backend: str = option("", "Of the target [default: the first with int8]; that runs a plain .onnx.")
    time_s: float | None = option(
        None,
        "All of it, over every run of this search [default: the target's, or 5m].",
        flag="--time",
        parse="duration",
        metavar="5m",
    )


@dataclass(frozen=True, kw_only=True)
class ExecutionTuneOptions(TuneOptions, PreprocessOptions):
    """Of `edgeport.api.tune_execution`.

    Attributes:
        goal: "latency" (of one call after the other, lowest median) or "throughput" (samples per second, with as many
            calls at once as there are streams); None for throughput where there is a bound of p99, else latency.
        p99_ns: For throughput: what 99 % of the calls must keep to, in nanoseconds.
        batches: Samples in a call that are tried, where the model's batch is free; for throughput 1 to 16 if empty.
        samples: As in `BenchOptions`.
        rounds: Fresh pairs of the last word; 6 at least.
        duration_s: Seconds of timed calls per process.

    """

    goal: str | None = option(None, "What is best [default: latency].", flag="--for", choices=("latency", "throughput"))
    p99_ns: float | None = option(
        None, "For throughput: what 99 % of the calls must keep to.", flag="--p99", parse="nanoseconds", metavar="20ms"
    )
    batches: tuple[int, ...] = option((), "Samples in a call; may be repeated.", flag="--batch", least=1)
    samples: Path | None = option(None, ".npz with inputs [default: a bundle's own, or random values].")
    rounds: int = 10
    duration_s: float = 0.3

    @property
    def resolved_goal(self) -> str:
        """The goal that is given, or that follows from a bound."""
        return self.goal or ("latency" if self.p99_ns is None else "throughput")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Of `edgeport.api.schedule`.

    Attributes:
        backend: As in `BenchOptions`.
        rounds: Times that a way is measured which may keep every budget.
        duration_s: Seconds of timed calls per process.

    """

    backend: str = option("onnxruntime", "That runs a plain .onnx.")
    rounds: int = option(10, "Of a way that may do.", least=6)
    duration_s: float = 0.5
