"""The tables of times, of the roofline and of energy, ready to print."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeport.contracts import Candidate, LatencySummary, RunResult
from edgeport.devices.latency.roofline import roofline_flags
from edgeport.report.figures import (
    LatencyUnit,
    bytes_text,
    count_text,
    duration_text,
    joules_text,
    number_text,
    percent_text,
    rate_text,
)
from edgeport.report.rows import Cell, quantile_cell
from edgeport.report.style import CandidateStyle

__all__ = ["EnergyRow", "RooflineRow", "TimesRow", "energies", "quantile_names", "rooflines", "times"]

_NO_PEAK = "the device's own peak was not measured"
_NOT_ASKED = "not measured: it was not asked for"
_NEAR_PEAK = "faster than the measured peak"


@dataclass(frozen=True, kw_only=True)
class TimesRow:
    """What is never put into one number, of one candidate.

    Attributes:
        quantiles: One cell per quantile of `quantile_names`.
        throughput: Samples a second.
        first_load, load: Opening the artifact: its files read from the disk, or lying in memory.
        first_inference: The first call.
        memory: Largest resident size.
        evidence: Calls, processes, and how many independent calls would say as much.
        scenario: Empty for one call after another.

    """

    name: str
    look: CandidateStyle
    quantiles: tuple[Cell, ...]
    throughput: Cell
    first_load: Cell
    load: Cell
    first_inference: Cell
    memory: Cell
    evidence: Cell
    scenario: str


@dataclass(frozen=True, kw_only=True)
class RooflineRow:
    """One candidate under the roof.

    Attributes:
        least, median: Times of a call.
        share: Of the roof, per cent.
        bound: What bounds it, in a word or two.
        kind: Colour of that word.
        work: Operations and bytes of one call.
        peak: Of the device.
        source: How that was measured.
        why: Why there is no place; empty where there is one.

    """

    name: str
    look: CandidateStyle
    least: str = ""
    median: str = ""
    share: str = ""
    bound: str = ""
    kind: str = "ok"
    work: Cell
    peak: Cell
    source: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class EnergyRow:
    """One candidate; `why` says why there is no number, and is empty where there is one."""

    name: str
    look: CandidateStyle
    per_sample: Cell
    idle: str
    source: str
    why: str = ""


def quantile_names(result: RunResult) -> tuple[float, ...]:
    """Every quantile that some candidate has, ascending, 0..1."""
    return tuple(sorted({quantile.q for _, timed in _timed(result) for quantile in timed.quantiles}))


def times(result: RunResult, seen: dict[str, CandidateStyle], unit: LatencyUnit) -> list[TimesRow]:
    """One row per candidate that was timed."""
    names = quantile_names(result)
    return [_times(candidate, timed, seen, names, unit) for candidate, timed in _timed(result)]


def _throughput(candidate: Candidate, timed: LatencySummary) -> Cell:
    """With several calls at once where that was measured, else with one after the other."""
    many = candidate.throughput
    rate = many.per_s if many is not None and many.per_s is not None else timed.throughput_per_s
    if rate is None:
        return Cell(detail="not counted")
    detail = f"{number_text(rate.low)} to {number_text(rate.high)}"
    if many is not None and many.per_s is not None:
        detail += f"; {many.streams} calls at once"
    return Cell(value=number_text(rate.estimate), detail=detail)


def _times(
    candidate: Candidate,
    timed: LatencySummary,
    seen: dict[str, CandidateStyle],
    names: tuple[float, ...],
    unit: LatencyUnit,
) -> TimesRow:
    name = candidate.name
    return TimesRow(
        name=name,
        look=seen[name],
        quantiles=tuple(quantile_cell(timed.quantile(q), unit) for q in names),
        throughput=_throughput(candidate, timed),
        first_load=Cell(value=duration_text(timed.first_load_ns))
        if timed.first_load_ns is not None
        else Cell(detail="not tried"),
        load=Cell(value=duration_text(timed.load_ns)),
        first_inference=Cell(value=duration_text(timed.first_inference_ns)),
        memory=Cell(value=bytes_text(timed.peak_memory_bytes)) if timed.peak_memory_bytes else Cell(detail="not told"),
        evidence=Cell(value=f"{timed.calls:,}", detail=f"in {timed.processes}; worth {timed.effective_calls:,.0f}"),
        scenario="" if timed.scenario == "single-stream" else timed.scenario,
    )


def rooflines(result: RunResult, seen: dict[str, CandidateStyle], unit: LatencyUnit) -> list[RooflineRow]:
    """One row per candidate that was timed."""
    return [_roofline(candidate.name, timed, seen[candidate.name], unit) for candidate, timed in _timed(result)]


def _roofline(name: str, timed: LatencySummary, look: CandidateStyle, unit: LatencyUnit) -> RooflineRow:
    found, median = timed.roofline, timed.quantile(0.5)
    if found is None:
        why = _NO_PEAK if median.interval_ns is not None else f"its median is unknown: {median.refused}"
        return RooflineRow(name=name, look=look, why=why, work=Cell(), peak=Cell())
    bound, kind = f"{found.bound}-bound", "float" if found.bound == "compute" else "open"
    flags = roofline_flags(found)
    if "overhead-bound" in flags:
        bound, kind = "overhead-bound", "ok"
    elif "too-fast" in flags:
        bound, kind = "too fast to be true", "invalid"
    elif "near-peak" in flags:
        bound = f"{bound}, {_NEAR_PEAK}"
    roof = found.roof
    return RooflineRow(
        name=name,
        look=look,
        least=unit.text(found.least_ns),
        median=unit.text(found.least_ns / found.share if median.interval_ns is None else median.interval_ns.estimate),
        share=percent_text(found.share),
        bound=bound,
        kind=kind,
        work=Cell(value=f"{count_text(found.work.operations)}op", detail=bytes_text(found.work.bytes)),
        peak=Cell(value=rate_text(roof.operations_per_s, "op"), detail=rate_text(roof.bytes_per_s, "B")),
        source=roof.source,
    )


def energies(result: RunResult, seen: dict[str, CandidateStyle]) -> list[EnergyRow]:
    """One row per candidate that was timed."""
    return [_energy(candidate.name, timed, seen[candidate.name]) for candidate, timed in _timed(result)]


def _energy(name: str, timed: LatencySummary, look: CandidateStyle) -> EnergyRow:
    found = timed.energy
    if found is None or found.per_sample_j is None:
        why = (found.refused if found is not None else "") or _NOT_ASKED
        return EnergyRow(name=name, look=look, per_sample=Cell(), idle="", source="", why=why)
    joules = found.per_sample_j
    finite = math.isfinite(joules.low) and math.isfinite(joules.high)
    span = f"{joules_text(joules.low)} to {joules_text(joules.high)}" if finite else "one process: no interval"
    return EnergyRow(
        name=name,
        look=look,
        per_sample=Cell(value=joules_text(joules.estimate), detail=span),
        idle=f"{found.idle_w:.3g} W" if found.idle_w is not None else "",
        source=found.source,
    )


def _timed(result: RunResult) -> list[tuple[Candidate, LatencySummary]]:
    return [(candidate, candidate.latency) for candidate in result.candidates if candidate.latency is not None]
