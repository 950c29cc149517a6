"""How fast artifacts are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Limits,
    OnProgress,
    silent,
)
from edgeport.errors import UsageError

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.bench import BenchResult
    from edgeport.pipeline.benchmarking.compare import CompareResult
    from edgeport.pipeline.benchmarking.soak import SoakResult
    from edgeport.recipe.bounds import Bound

__all__ = [
    "bench",
    "compare",
    "soak",
]


def bench(
    artifact: Path,
    *,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    rounds: int = 10,
    duration_s: float = 0.3,
    threads: int | None = None,
    against: Path | None = None,
    budgets: Sequence[str | Bound] = (),
    until: float | None = None,
    time_s: float | None = None,
    scenario: str = "single-stream",
    streams: int | None = None,
    rate_per_s: float | None = None,
    energy: bool = False,
    cool_down_s: float = 0.0,
    baseline: Path | None = None,
    save_baseline: Path | None = None,
    require_placement: float | None = None,
    device: str = "local",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> BenchResult:
    """Times an artifact on this machine, in fresh processes; another one beside it, interleaved.

    Without `until`, `time_s` and a budget that measuring can decide, `rounds` processes are measured. Else measuring
    goes on until every budget is decided and the interval is as narrow as asked, for 60 s at most or `time_s`.

    Args:
        artifact: A folder that `quantize` wrote, a bundle, or an `.onnx` file, which is timed as it is.
        backend: That runs an `.onnx` file.
        samples: `.npz` with one array [N, ...] per input, of which the first samples are bound; else the bundle's
            own sample, or random values.
        preprocess: A recipe; the samples are raw, and its [inputs.NAME.preprocess] say what becomes of them.
        rounds: Fresh processes per artifact, the fewest where measuring may go on; fewer than 10 may only give a wide
            interval.
        duration_s: Seconds of timed calls per process, at least.
        threads: For an `.onnx` file; None leaves the runtime's default.
        against: Another artifact, of the same kinds.
        budgets: What it must keep to: "p99=20ms", "throughput=200/s", "memory=300MB", "size=10MB",
            "first-inference=1s", each with a verdict of its own.
        until: Half the width of the interval over its estimate that is narrow enough (0.01 for 1 %): of the budget's
            quantiles, else of the median; of the throughput in "offline".
        time_s: Seconds after which no further round is begun.
        scenario: "single-stream" (one call after the other), "multi-stream" (one call of each stream at once),
            "server" (calls come at random times, `rate_per_s` on average), "offline" (each stream as fast as it can).
        streams: Calls that may run at the same time; None: as many as there are cores.
        rate_per_s: Of "server".
        energy: Measure joules per sample, where this machine has a meter; takes 10 s more, and a second per process.
        cool_down_s: Seconds of rest before each process but the first, at most: until the device's hottest zone is as
            cool as before that one; all of them where no zone tells.
        baseline: What `save_baseline` wrote earlier; being surely slower than that is a failure.
        save_baseline: A file that gets the raw traces.
        require_placement: Part of the planned nodes that must have run as planned when it was built, 0..1; one more
            verdict. A bundle does not hold its plan, so nothing can be said of it.
        device: Of `list_devices`; where it is timed.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed, or choices that do not go together.
        BackendError, IsolationError: It does not run, or it is not what its record says.

    """
    from edgeport.pipeline.benchmarking.bench import Asked, BenchSettings, bench_artifact, parse_bounds

    settings = BenchSettings(
        backend=backend,
        samples=samples,
        preprocess=preprocess,
        rounds=rounds,
        duration_s=duration_s,
        threads=threads,
        scenario=scenario,
        streams=streams,
        rate_per_s=rate_per_s,
        until=until,
        time_s=time_s,
        energy=energy,
        cool_down_s=cool_down_s,
        device=device,
        limits=limits,
    )
    asked = Asked(
        bounds=parse_bounds(budgets),
        against=against,
        baseline=baseline,
        save_baseline=save_baseline,
        least_placement=require_placement,
    )
    return bench_artifact(artifact, settings, asked, on_progress=on_progress)


def soak(
    artifact: Path,
    *,
    time_s: float = 3600.0,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    threads: int | None = None,
    device: str = "local",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> SoakResult:
    """Keeps an artifact at work, one call after the other, and tells how fast it is at first and how fast it stays.

    One process. That the device throttles is what this is there to show, and no reason to disbelieve it.

    Args:
        artifact: As in `bench`.
        time_s: Seconds of calls, 1 to 86400.
        backend: As in `bench`.
        samples: As in `bench`.
        preprocess: As in `bench`.
        threads: As in `bench`.
        device: Of `list_devices`; where it runs.
        on_progress: Told when it begins.
        limits: Of each child, beside `time_s`.

    Raises:
        UsageError: Nothing there that can be timed, or no such time.
        BackendError, IsolationError: It does not run, or it is not what its record says.

    """
    from edgeport.pipeline.benchmarking.bench import BenchSettings
    from edgeport.pipeline.benchmarking.soak import soak_artifact

    settings = BenchSettings(
        backend=backend, samples=samples, preprocess=preprocess, threads=threads, device=device, limits=limits
    )
    return soak_artifact(artifact, settings, time_s, on_progress=on_progress)


def compare(
    old: Path,
    new: Path,
    *,
    backend: str = "onnxruntime",
    samples: Path | None = None,
    preprocess: Path | None = None,
    rounds: int = 10,
    duration_s: float = 0.3,
    threads: int | None = None,
    delta: float | None = None,
    fail_on: str = "slower",
    until: float | None = None,
    time_s: float | None = None,
    cool_down_s: float = 0.0,
    device: str = "local",
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> CompareResult:
    """Whether an artifact is faster or slower than another one, from pairs of fresh processes in random order.

    Args:
        old: A folder that `quantize` wrote, a bundle, or an `.onnx` file.
        new: Another one.
        backend: As in `bench`.
        samples: As in `bench`; for both.
        preprocess: As in `bench`.
        rounds: Pairs; the fewest where `until` or `time_s` is given. Below 6 nothing can be proved.
        duration_s: Seconds of timed calls per process.
        threads: As in `bench`.
        delta: A difference that does not matter, as a fraction; None: what the device shows of each artifact against
            itself, at least 2 %.
        fail_on: "slower": any certain slowdown fails; "regressed": only one that is surely above delta.
        until: Measure until the change is known, and half the width of the speedup's interval over its estimate is
            this (0.01 for 1 %).
        time_s: Measure until the change is known, but begin no round after so many seconds (60 if `until` is given).
        cool_down_s: As in `bench`.
        device: Of `list_devices`; where both are timed.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed.
        BackendError, IsolationError: One of them does not run, or is not what its record says.

    """
    from edgeport.contracts import Change
    from edgeport.pipeline.benchmarking.bench import BenchSettings
    from edgeport.pipeline.benchmarking.compare import compare_artifacts

    if fail_on not in ("slower", "regressed"):
        raise UsageError(asked=f"fail on {fail_on!r}", found="no such change", fix="use slower or regressed")
    if delta is not None and not 0 < delta < 1:
        raise UsageError(asked=f"compare with delta {delta:g}", found="no fraction", fix="give one, such as 0.03")
    settings = BenchSettings(
        backend=backend,
        samples=samples,
        preprocess=preprocess,
        rounds=rounds,
        duration_s=duration_s,
        threads=threads,
        until=until,
        time_s=time_s,
        cool_down_s=cool_down_s,
        device=device,
        limits=limits,
    )
    return compare_artifacts(old, new, settings, delta=delta, fail_on=Change(fail_on), on_progress=on_progress)
