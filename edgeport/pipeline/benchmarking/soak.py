"""One artifact at work for a long time: how fast it is at first, and how fast it stays."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport.contracts import DeviceFacts, Endurance, Measurement, OnProgress, Outcome, ProgressEvent, silent
from edgeport.errors import DeviceLost, UsageError
from edgeport.pipeline.benchmarking.bench import open_all

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.artifact import BenchSettings

__all__ = ["SoakResult", "soak_artifact"]

_LEAST_S = 1.0
_LONGEST_S = 24 * 3600.0
_OWN = frozenset({"throttled", "frequency-drop", "slowdown", "cyclic", "no-steady-state"})
"""Flags of what a soak is there to show."""


@dataclass(frozen=True, kw_only=True)
class SoakResult:
    """What became of an artifact's speed.

    Attributes:
        name: Of what ran.
        backend, precision: That it was built for.
        endurance: Burst and sustained.
        device: Where.
        missing: Sources that the device has not, each with what is not known without it.
        outcome: PASS, INCONCLUSIVE or INVALID: whether the numbers may be believed.
        flags: That say why not; that it throttled is no such flag.
        measurement: The raw trace.

    """

    name: str
    backend: str
    precision: str
    endurance: Endurance
    device: DeviceFacts
    missing: tuple[str, ...] = ()
    outcome: Outcome
    flags: tuple[str, ...] = ()
    measurement: Measurement = field(repr=False)
    schema_version: int = 1


def soak_artifact(
    path: Path, settings: BenchSettings, time_s: float, *, on_progress: OnProgress = silent
) -> SoakResult:
    """See `edgeport.api.soak`."""
    from edgeport.devices.agent.probing import missing_sources
    from edgeport.devices.latency.endurance import endurance, paused_s
    from edgeport.devices.latency.validity_flags import measurement_flags, outcome_of
    from edgeport.devices.opening import open_device

    if not _LEAST_S <= time_s <= _LONGEST_S:
        raise UsageError(
            asked=f"keep {path.name} at work for {time_s:g} s", found="too short or too long", fix="give 1 s to 24 h"
        )
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-soak-")))
        device = stack.enter_context(open_device(settings.device, scratch / "device"))
        opened, jobs = open_all({"artifact": path}, settings, scratch, device, on_progress)
        limits = replace(settings.limits, time_s=settings.limits.time_s + time_s)
        job = replace(jobs["artifact"], scenario="sustained", streams=1, duration_s=time_s, limits=limits)
        on_progress(ProgressEvent(stage="soak", message=f"at work for {time_s:g} s", time_left_s=time_s))
        began = time.monotonic()
        try:
            trace = device.run(job)
        except DeviceLost as error:
            raise _lost(error, path.name, settings.device, time_s, time.monotonic() - began) from error
        facts, artifact = device.facts(), opened["artifact"].artifact
    measured = Measurement(artifact_digest=trace.artifact_digest, device=facts.digest, seed=0, traces=(trace,))
    stood_s = paused_s(trace)
    seen = {*measurement_flags(measured), *([f"paused:{stood_s:.0f} s"] if stood_s else [])}
    flags = tuple(sorted(flag for flag in seen if flag not in _OWN))
    return SoakResult(
        name=opened["artifact"].name,
        backend=artifact.backend,
        precision=str(artifact.precision),
        endurance=endurance(trace),
        device=facts,
        missing=tuple(missing_sources(facts.sensors)),
        outcome=outcome_of(flags),
        flags=flags,
        measurement=measured,
    )


def _lost(error: DeviceLost, name: str, device: str, time_s: float, after_s: float) -> DeviceLost:
    """A soak is one process: its readings were on the device, and went with it."""
    return DeviceLost(
        asked=f"keep {name} at work on {device} for {time_s:g} s",
        found=f"{error.found}, {after_s:.0f} s after it began; what it had measured is lost",
        fix="look at its power, network and heat; the same command begins anew, with the files that are there",
        details=error.details,
    )
