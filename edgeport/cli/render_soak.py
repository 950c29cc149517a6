"""What a soak found, drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgeport.cli.formatting import TimeUnit, significant, span
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import Outcome

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.soak import SoakResult

__all__ = ["draw_soak"]


def draw_soak(console: Console, found: SoakResult) -> None:
    """Burst and sustained latency, when it slowed down, heat, what the device can't tell, flags in words."""
    from edgeport.report.flags import flag_notes

    ran, device = found.endurance, found.device
    unit = TimeUnit.fitting(ran.burst_ns.estimate)
    rows = []
    for name, interval in (("burst", ran.burst_ns), ("sustained", ran.sustained_ns)):
        scaled = unit.scaled(interval)
        within = span(scaled) if math.isfinite(interval.high) else "too few slots of time for an interval"
        rows.append((name, f"{significant(scaled.estimate)} {unit.name}, {within}"))
    kept = 100 * ran.retention
    slowed = "" if ran.slowed_after_s is None else f"; over 5 % slower from {ran.slowed_after_s:.0f} s on"
    rows.append(("speed kept", f"{kept:.3g} %{slowed}"))
    heat = "not told"
    if ran.first_celsius is not None and ran.hottest_celsius is not None:
        heat = f"{ran.first_celsius:.0f} °C at first, {ran.hottest_celsius:.0f} °C at most"
    rows += [("heat", heat), ("throttled", "yes, it says so" if ran.throttled else "it does not say so")]
    where = f"{device.cpu or device.machine}, {device.cores} cores"
    built = f"{found.backend} {found.precision}".strip()
    lines(console, Text(clean(f"{found.name} ({built}) on {where}; {ran.duration_s:.0f} s of calls, one process")))
    lines(console, *(Text(clean(f"{name:<10}  {value}")) for name, value in rows))
    lines(console, *(Text(clean(f"{'missing':<10}  {one}"), style="yellow") for one in found.missing))
    for note in flag_notes(found.flags):
        lines(console, Text(clean(f"flag: {note.flag}: {note.words}"), style="yellow"))
    if found.outcome is not Outcome.PASS:
        lines(console, Text(str(found.outcome).upper(), style="bold yellow"))
