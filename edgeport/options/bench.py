"""How artifacts are timed, and what they are held to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeport.options.artifacts import DeviceOptions, PlacementOptions, PreprocessOptions
from edgeport.options.declare import option

__all__ = ["BenchOptions", "CompareOptions", "ExecuteOptions", "TimingOptions"]


@dataclass(frozen=True, kw_only=True)
class ExecuteOptions(PreprocessOptions, DeviceOptions):
    """How an artifact is run.

    Attributes:
        backend: That runs an `.onnx` file.
        threads: For an `.onnx` file; None leaves the runtime's default.
        samples: `.npz` with one array [N, ...] per input, of which the first samples are bound; None for a bundle's own
            sample, or random values.

    """

    samples: Path | None = option(None, ".npz with inputs [default: a bundle's own, or random values].")
    threads: int | None = option(None, "For a plain .onnx [default: the runtime's own].", least=1)
    backend: str = option("onnxruntime", "That runs a plain .onnx.")


@dataclass(frozen=True, kw_only=True)
class TimingOptions(ExecuteOptions):
    """How long artifacts are timed.

    Attributes:
        rounds: Fresh processes (pairs of them, for two artifacts), the fewest where measuring may go on; fewer than 10
            may only give a wide interval, and below 6 pairs prove nothing.
        duration_s: Seconds of timed calls per process, at least.
        until: Half the width of the interval over its estimate that is narrow enough (0.01 for 1 %): of the budget's
            quantiles, else of the median; of the throughput in "offline"; of the speedup between two artifacts.
        time_s: Seconds after which no further round is begun; None for 60 where measuring may go on.
        cool_down_s: Seconds of rest before each process but the first, at most: until the device's hottest zone is as
            cool as before that one; all of them where no zone tells.

    """

    duration_s: float = option(0.3, "Of timed calls in each process.", flag="--duration", above=0, metavar="SECONDS")
    time_s: float | None = option(
        None,
        "Measure no longer than this [default: 60 s where it may go on].",
        flag="--time",
        parse="seconds",
        metavar="60s",
    )
    cool_down_s: float = option(
        0.0,
        "Rest before each process, at most: until as cool as before the first.",
        flag="--cool-down",
        parse="seconds",
        default_text=None,
        metavar="30s",
    )
    until: float | None = option(
        None, "Measure until the 95 % interval is this narrow, to either side.", parse="share", metavar="1%"
    )
    rounds: int = option(10, "Fresh processes; the fewest where measuring goes on.", least=1)


@dataclass(frozen=True, kw_only=True)
class BenchOptions(TimingOptions, PlacementOptions):
    """Of `edgeport.api.bench`: how an artifact is timed, beside what, and what it must keep to.

    Attributes:
        budgets: "p99=20ms", "throughput=200/s", "memory=300MB", "size=10MB", "first-inference=1s", each with a verdict
            of its own.
        against: Another artifact, timed in turn with this one.
        baseline: What `save_baseline` wrote earlier; being surely slower than that is a failure.
        save_baseline: A file that gets the raw traces.
        scenario: "single-stream" (one call after the other), "multi-stream" (one call of each stream at once),
            "server" (calls come at random times, `rate_per_s` on average), "offline" (each stream as fast as it can).
        streams: Calls that may run at the same time; None: as many as there are cores.
        rate_per_s: Of "server".
        energy: Measure joules per sample, where this machine has a meter; takes 10 s more, and a second per process.

    """

    budgets: tuple[str, ...] = option(
        (),
        "p99=20ms, throughput=200/s, memory=300MB, size=10MB or first-inference=1s; may be given several times.",
        flag="--budget",
        metavar="NAME=LIMIT",
    )
    against: Path | None = option(None, "Another artifact, measured in turn with this one.", path="place")
    baseline: Path | None = option(None, "What --save-baseline wrote, earlier and on this machine.")
    save_baseline: Path | None = option(
        None, "Keep the raw measurement for --baseline.", path="new", metavar="FILE.json"
    )
    scenario: str = option(
        "single-stream",
        "One call after the other; one per stream at once; at random times; all streams as fast as they can.",
        choices=("single-stream", "multi-stream", "server", "offline"),
    )
    streams: int | None = option(None, "Calls at the same time [default: one per core].", least=1)
    rate_per_s: float | None = option(
        None, "Of the calls that come to a server.", flag="--rate", parse="rate", metavar="100/s"
    )
    energy: bool = option(default=False, text="Measure joules per sample, where there is a meter; some 20 s more.")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(TimingOptions):
    """Of `edgeport.api.compare`.

    Attributes:
        delta: A difference that does not matter, as a fraction; None: what the device shows of each artifact against
            itself, at least 2 %.
        fail_on: "slower": any certain slowdown fails; "regressed": only one that is surely above delta.

    """

    delta: float | None = option(
        None,
        "A difference that does not matter [default: what this machine shows, at least 2 %].",
        parse="share",
        metavar="3%",
    )
    fail_on: Literal["slower", "regressed"] = option(
        "slower", "Any certain slowdown, or only one that is surely above delta."
    )
