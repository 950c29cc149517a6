"""How fast artifacts are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.api.defaults import DEFAULT_LIMITS
from edgeport.contracts import (
    Limits,
    OnProgress,
    silent,
)
from edgeport.errors import UsageError
from edgeport.options.bench import BenchOptions, CompareOptions, ExecuteOptions
from edgeport.options.declare import common_fields

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.bench import BenchResult
    from edgeport.pipeline.benchmarking.compare import CompareResult
    from edgeport.pipeline.benchmarking.soak import SoakResult

__all__ = [
    "bench",
    "compare",
    "soak",
]


def bench(
    artifact: Path,
    *,
    options: BenchOptions = BenchOptions(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> BenchResult:
    """Times an artifact on a device, in fresh processes; another one beside it, interleaved.

    Without `until`, `time_s` and a budget that measuring can decide, `rounds` processes are measured. Else measuring
    goes on until every budget is decided and the interval is as narrow as asked, for 60 s at most or `time_s`.

    Args:
        artifact: A folder that `quantize` wrote, a bundle, or an `.onnx` file, which is timed as it is.
        options: How it is timed, and what it must keep to.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed, or choices that do not go together.
        BackendError, IsolationError: It does not run, or it is not what its record says.

    """
    from edgeport.pipeline.benchmarking.bench import Asked, BenchSettings, bench_artifact, parse_bounds

    settings = BenchSettings(**common_fields(BenchSettings, options), limits=limits)
    asked = Asked(
        **common_fields(Asked, options),
        bounds=parse_bounds(options.budgets),
        least_placement=options.require_placement,
    )
    return bench_artifact(artifact, settings, asked, on_progress=on_progress)


def soak(
    artifact: Path,
    *,
    time_s: float = 3600.0,
    options: ExecuteOptions = ExecuteOptions(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> SoakResult:
    """Keeps an artifact at work, one call after the other, and tells how fast it is at first and how fast it stays.

    One process. That the device throttles is what this is there to show, and no reason to disbelieve it.

    Args:
        artifact: As in `bench`.
        time_s: Seconds of calls, 1 to 86400.
        options: How it is run.
        on_progress: Told when it begins.
        limits: Of each child, beside `time_s`.

    Raises:
        UsageError: Nothing there that can be timed, or no such time.
        BackendError, IsolationError: It does not run, or it is not what its record says.

    """
    from edgeport.pipeline.benchmarking.bench import BenchSettings
    from edgeport.pipeline.benchmarking.soak import soak_artifact

    settings = BenchSettings(**common_fields(BenchSettings, options), limits=limits)
    return soak_artifact(artifact, settings, time_s, on_progress=on_progress)


def compare(
    old: Path,
    new: Path,
    *,
    options: CompareOptions = CompareOptions(),
    on_progress: OnProgress = silent,
    limits: Limits = DEFAULT_LIMITS,
) -> CompareResult:
    """Whether an artifact is faster or slower than another one, from pairs of fresh processes in random order.

    Args:
        old: A folder that `quantize` wrote, a bundle, or an `.onnx` file.
        new: Another one.
        options: How both are timed, and which change matters.
        on_progress: Told before each process.
        limits: Of each child.

    Raises:
        UsageError: Nothing there that can be timed.
        BackendError, IsolationError: One of them does not run, or is not what its record says.

    """
    from edgeport.contracts import Change
    from edgeport.pipeline.benchmarking.bench import BenchSettings
    from edgeport.pipeline.benchmarking.compare import compare_artifacts

    delta, fail_on = options.delta, options.fail_on
    if fail_on not in ("slower", "regressed"):
        raise UsageError(asked=f"fail on {fail_on!r}", found="no such change", fix="use slower or regressed")
    if delta is not None and not 0 < delta < 1:
        raise UsageError(asked=f"compare with delta {delta:g}", found="no fraction", fix="give one, such as 0.03")
    settings = BenchSettings(**common_fields(BenchSettings, options), limits=limits)
    return compare_artifacts(old, new, settings, delta=delta, fail_on=Change(fail_on), on_progress=on_progress)
