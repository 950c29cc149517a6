"""A kept measurement: one JSON file with the raw traces, the device and the artifact, to compare a later one with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeport import __version__
from edgeport.atomic import atomic_write
from edgeport.contracts import (
    Change,
    Comparison,
    DeviceFacts,
    LatencySummary,
    Measurement,
    Outcome,
    dump_json,
    load_json,
)
from edgeport.errors import ContractError, OutputError, UsageError
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.selection.constraints import Check, grave

__all__ = ["Baseline", "judge_kept", "keep", "load_baseline", "save_baseline", "write_whole"]

_LARGEST_BYTES = 256 << 20
"""300 processes of 100,000 calls; more is no baseline."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What `edgeport bench --save-baseline` writes.

    Attributes:
        name: Of what was timed.
        artifact_digest: Of it; a later artifact of the same model may have another.
        device: Where it was measured.
        scenario, streams, rate_per_s, batch: How; another measurement must have the same.
        measurement: The raw traces.
        edgeport: Version that wrote it.

    """

    name: str
    artifact_digest: str
    device: DeviceFacts
    scenario: str
    streams: int
    rate_per_s: float
    batch: int
    measurement: Measurement
    edgeport: str = __version__
    schema_version: int = 1

    def __post_init__(self) -> None:
        if self.measurement.device != self.device.digest or self.measurement.artifact_digest != self.artifact_digest:
            raise ContractError(
                asked=f"keep a measurement of {self.name}",
                found="traces of another device or another artifact than the file names",
                fix="write it again with --save-baseline",
            )
        if not self.measurement.traces:
            raise ContractError(
                asked=f"keep a measurement of {self.name}", found="no traces", fix="write it again with --save-baseline"
            )


def save_baseline(path: Path, baseline: Baseline) -> None:
    """Writes it in one step: whoever reads the file finds the old one or the new one, never half.

    Raises:
        OutputError: It can't be written.

    """
    write_whole(path, dump_json(baseline))


def keep(path: Path, now: Baseline, summary: LatencySummary) -> str:
    """Saves the measurement, unless it must not be used; says what was done, in a sentence."""
    why = ", ".join(grave(summary)) or "too few calls"
    if summary.outcome is Outcome.INVALID:
        return f"No baseline was saved: {why}."
    save_baseline(path, now)
    doubt = f", but it is in doubt ({why}): comparisons with it may be unknown"
    return f"Saved as a baseline: {path}{doubt if summary.outcome is Outcome.INCONCLUSIVE else ''}."


def load_baseline(path: Path) -> Baseline:
    """Reads it; nothing in the file is executed, and no field is taken that does not belong there.

    Raises:
        UsageError: There is no such file, or it is far too large.
        ContractError: It is damaged, or something else than a baseline.

    """
    asked = f"compare with the baseline {path.name}"
    fix = "name a file that `edgeport bench --save-baseline` wrote"
    if not path.is_file():
        raise UsageError(asked=asked, found="a folder" if path.is_dir() else "no such file", fix=fix)
    if path.stat().st_size > _LARGEST_BYTES:
        raise UsageError(asked=asked, found=f"a file of {path.stat().st_size} bytes", fix=fix)
    try:
        return load_json(Baseline, path.read_bytes())
    except ContractError as error:
        raise ContractError(asked=asked, found=error.found, fix=f"{fix}, with this release") from error


def judge_kept(kept: Baseline, now: Baseline) -> tuple[Comparison, Check]:
    """Now against then: not interleaved, so that only what is beyond the device's delta counts.

    Raises:
        UsageError: The two were not measured in the same way.

    """
    from edgeport.devices.latency.baseline import compare_with_kept
    from edgeport.devices.latency.interference import without_disturbed

    for field in ("scenario", "streams", "rate_per_s", "batch"):
        then, today = getattr(kept, field), getattr(now, field)
        if then != today:
            raise UsageError(
                asked=f"compare with the baseline of {kept.name}",
                found=f"{field.replace('_', ' ')} {then} there, and {today} now",
                fix="measure in the same way, or save a new baseline",
            )
    before = without_disturbed({"kept": kept.measurement})["kept"]
    comparison, doubt = compare_with_kept(before, without_disturbed({"now": now.measurement})["now"])
    speedup, change = comparison.speedup, comparison.change
    span = f"{speedup.low:.3g} to {speedup.high:.3g} times the speed"
    outcome = {Change.REGRESSED: Outcome.FAIL, Change.UNKNOWN: Outcome.INCONCLUSIVE}.get(change, Outcome.PASS)
    reason = doubt or (f"{change}: {span} of then" if outcome is not Outcome.PASS else "")
    name = f"against the baseline of {kept.name}"
    return comparison, Check(
        name=name, outcome=outcome, found=f"{change}, {span}", reason=reason, interval=comparison.speedup
    )


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file in one step.

    Raises:
        OutputError: A link or a folder of that name, or no way to write there.

    """
    require_writable(path)
    try:
        atomic_write(path, data)
    except OSError as error:
        raise OutputError(
            asked=f"write {path}", found=error.strerror or str(error), fix="name a file that you may write"
        ) from error
