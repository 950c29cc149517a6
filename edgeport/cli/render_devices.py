"""What devices tell of themselves, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgeport.cli.formatting import bytes_of
from edgeport.cli.output import lines
from edgeport.cli.text import clean
from edgeport.contracts import DeviceFacts, DeviceProbe

if TYPE_CHECKING:
    from edgeport.devices.profiles import Profile

__all__ = ["draw_probe", "draw_profiles"]


def draw_probe(console: Console, found: DeviceProbe) -> None:
    """One row for each thing that is known; what is missing comes last."""
    facts = found.facts
    cores = [
        f"{core.count} x {core.name}{f' at up to {core.max_mhz} MHz' * bool(core.max_mhz)}" for core in found.cores
    ]
    rows = [
        ("device", f"{facts.name}{f', {found.board}' * bool(found.board)}"),
        ("system", f"{facts.system} ({facts.machine})"),
        ("cores", "; ".join(cores) or f"{facts.cores} x {facts.cpu}"),
        ("usable", f"{facts.cores} cores, {bytes_of(facts.memory_bytes)}"),
        ("features", ", ".join(facts.isa) or "none that matter to inference"),
        ("accelerators", ", ".join(found.accelerators) or "none found"),
        ("governors", ", ".join(f"{name} ({count})" for name, count in found.governors.items()) or "not told"),
        ("heat", ", ".join(f"{zone} {degrees:.0f} °C" for zone, degrees in found.thermal_zones.items()) or "not told"),
        *([("huge pages", found.huge_pages)] if found.huge_pages else []),
        *((name.replace("_", " "), said) for name, said in found.asked.items()),
        ("Python" if facts.python else "runs with", _runs_with(found)),
        ("runtimes", _runtimes(found.facts)),
    ]
    width = max(len(name) for name, _ in rows)
    lines(console, *(Text(clean(f"{name:<{width}}  {value}")) for name, value in rows))
    lines(console, *(Text(clean(f"{'missing':<{width}}  {one}"), style="yellow") for one in found.missing))


def _runs_with(found: DeviceProbe) -> str:
    """A Python, or the program that takes its place."""
    if not found.facts.python:
        return f"{found.runs_with} (no Python there: it times, and judges no outputs)"
    where = f" ({found.runs_with})" if found.runs_with else ""
    return f"{found.facts.python}{where}{', prepared by Edgeport' * found.prepared}"


def _runtimes(facts: DeviceFacts) -> str:
    """Each with its version; how to get one where nothing there runs an artifact."""
    listed = ", ".join(f"{name} {version}" for name, version in facts.runtimes.items())
    if set(facts.runtimes) - {"numpy"}:
        return listed
    get = "edgeport doctor" if facts.name == "local" else f"edgeport devices prepare {facts.name}"
    return f"{listed or 'none'} (nothing that runs artifacts; see {get})"


def draw_profiles(console: Console, known: Sequence[Profile]) -> None:
    """A block for each: what it is, its runtimes with dialect and precisions, and what to know."""
    for one in known:
        isa = ", ".join(one.processor.isa)
        lines(
            console, Text(clean(f"{one.name}: {one.title}, {one.cores} ({one.processor.machine}: {isa})"), style="bold")
        )
        for fit in one.fits:
            precisions = ", ".join(map(str, fit.precisions))
            lines(console, Text(clean(f"  {fit.backend:<12} {fit.dialect:<16} {precisions}")))
        lines(console, Text(clean(f"  {one.note}"), style="dim"))
