"""One candidate's processes on one axis of time, thinned for drawing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgeport.contracts import Measurement, ProcessTrace, TelemetrySample
from edgeport.devices.latency.interference import disturbed_rounds, rival_share
from edgeport.devices.latency.steady_portion import steady_states
from edgeport.devices.latency.steady_state import Shape, SteadyState
from edgeport.devices.latency.telemetry import canary_ns, exchange_ns, timed_samples
from edgeport.devices.latency.timer import call_latency_ns

__all__ = ["Buckets", "Curve", "DroppedRound", "Slot", "Timeline", "timeline"]

Floats = NDArray[np.float64]
_Read = Callable[[TelemetrySample], float | None]

_GAP = 0.015  # of the whole, between two processes
_DROPPED = 0.5  # of a process
_MOST_STRETCH = 2.0  # the pauses between blocks; more than that is no pause
_MOST_ZONES = 4
_ZONE = re.compile(r"zone\d+_.*_millicelsius")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One process on the axis.

    Attributes:
        round: Of the experiment, from 0.
        begin_s, end_s: On the axis: seconds of timed calls, processes joined with small gaps.
        started_s: Since the experiment's first timed call; None where no start was recorded.
        cut_s: On the axis, where steady state begins; None where all calls count.
        shape: What the process came to.
        disturbed: The fixed work took too long in its round, which stayed since too few others would have.
        others: Part of the processors that other processes had, 0..1; None where it was not read.

    """

    round: int
    begin_s: float
    end_s: float
    started_s: float | None
    cut_s: float | None
    shape: Shape
    disturbed: bool
    others: float | None


@dataclass(frozen=True, kw_only=True)
class DroppedRound:
    """A round that was left out, on the axis."""

    round: int
    begin_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Neighbouring calls put together; all arrays float64 [buckets], one NaN between two processes.

    Attributes:
        at_s: Middle, on the axis.
        low, median, high: Latency per call, ns.
        calls: How many readings.
        round: Of the experiment, from 0.

    """

    at_s: Floats
    low: Floats
    median: Floats
    high: Floats
    calls: Floats
    round: Floats


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A sensor; float64 [readings], NaN between two processes."""

    name: str
    at_s: Floats
    value: Floats


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All that is drawn over time for one candidate.

    Attributes:
        buckets: Latency of the calls.
        slots: The processes, in their order.
        dropped: Rounds that were left out.
        canary: Time of the fixed work before and after each process, ns; None where it was not taken.
        exchange: Time in which one processor read what another had written, likewise.
        frequency: Of the fastest processor, kHz; None where it can't be read.
        temperatures: By thermal zone, thousandths of a degree Celsius; empty where none can be read.

    """

    buckets: Buckets
    slots: tuple[Slot, ...]
    dropped: tuple[DroppedRound, ...]
    canary: Curve | None
    exchange: Curve | None
    frequency: Curve | None
    temperatures: tuple[Curve, ...]

    @property
    def end_s(self) -> float:
        """Where the axis ends."""
        return max(one.end_s for one in self.places)

    @property
    def places(self) -> list[Slot | DroppedRound]:
        """Processes and dropped rounds, in their order."""
        places: list[Slot | DroppedRound] = [*self.slots, *self.dropped]
        return sorted(places, key=lambda one: one.begin_s)


def timeline(measurement: Measurement, experiment: Mapping[str, Measurement], *, buckets: int = 480) -> Timeline | None:
    """Lays the processes of one candidate one after another.

    Args:
        measurement: Of the candidate.
        experiment: Of all candidates that were timed beside it.
        buckets: About so many for all processes together.

    Returns:
        None where no process has a reading.

    """
    pairs = zip(measurement.traces, steady_states(measurement), strict=True)
    timed = sorted(((trace, state) for trace, state in pairs if trace.latency_ns), key=lambda pair: pair[0].round)
    if not timed:
        return None
    traces = [trace for trace, _ in timed]
    ends = [_call_ends_s(trace) for trace in traces]
    slots, dropped = _place(timed, ends, _dropped_rounds(measurement), experiment)
    each = max(1, buckets // len(traces))
    frequency = _curves(traces, slots, {"clock": _highest_frequency}, each, np.fmin)
    return Timeline(
        buckets=_buckets(traces, ends, slots, each),
        slots=slots,
        dropped=dropped,
        canary=_around("canary", canary_ns, traces, slots),
        exchange=_around("exchange", exchange_ns, traces, slots),
        frequency=frequency[0] if frequency else None,
        temperatures=_temperatures(traces, slots, each),
    )


def _call_ends_s(trace: ProcessTrace) -> Floats:
    """When each reading ended, seconds after the first one began.

    Where calls overlap or wait for their time, their latencies don't add up: they are spread evenly. Between blocks of
    calls the sensors are read: these pauses are spread over the calls.
    """
    latency_s = np.asarray(trace.latency_ns, dtype=np.float64) / 1e9
    if trace.scenario not in ("single-stream", "multi-stream"):
        whole = trace.elapsed_ns / 1e9 or float(latency_s.sum())
        return np.linspace(whole / latency_s.size, whole, latency_s.size)
    ends: Floats = np.cumsum(latency_s)
    samples = timed_samples(trace)
    span = (samples[-1].at_ns - trace.started_at_ns) / 1e9 if samples and trace.started_at_ns else 0.0
    return ends * span / ends[-1] if ends[-1] < span < _MOST_STRETCH * ends[-1] else ends


def _dropped_rounds(measurement: Measurement) -> list[int]:
    """Rounds that are missing among those that were run; the flag says how many there are."""
    told = [flag.partition(":")[2] for flag in measurement.flags if flag.startswith("dropped-rounds:")]
    count = sum(int(text) for text in told if text.isdigit())
    kept = {trace.round for trace in measurement.traces}
    missing = (index for index in range(max(kept) + 1 + count) if index not in kept)
    return [index for index, _ in zip(missing, range(count), strict=False)]


def _place(
    timed: Sequence[tuple[ProcessTrace, SteadyState]],
    ends: Sequence[Floats],
    missing: Sequence[int],
    experiment: Mapping[str, Measurement],
) -> tuple[tuple[Slot, ...], tuple[DroppedRound, ...]]:
    """Processes and dropped rounds, side by side in the order of the rounds."""
    usual_s = float(np.median([end[-1] for end in ends]))
    gap_s = _GAP * sum(float(end[-1]) for end in ends)
    starts = [t.started_at_ns for one in experiment.values() for t in one.traces if t.started_at_ns]
    disturbed = () if missing else disturbed_rounds(experiment)
    slots: list[Slot] = []
    dropped: list[DroppedRound] = []
    at_s = 0.0
    order = sorted([*((trace.round, i) for i, (trace, _) in enumerate(timed)), *((index, -1) for index in missing)])
    for index, number in order:
        begin_s = at_s
        if number < 0:
            at_s += _DROPPED * usual_s
            dropped.append(DroppedRound(round=index, begin_s=begin_s, end_s=at_s))
        else:
            (trace, state), end = timed[number], ends[number]
            at_s += float(end[-1])
            slots.append(
                Slot(
                    round=index,
                    begin_s=begin_s,
                    end_s=at_s,
                    started_s=(trace.started_at_ns - min(starts)) / 1e9 if trace.started_at_ns and starts else None,
                    cut_s=_cut_s(state, begin_s, end),
                    shape=state.shape,
                    disturbed=index in disturbed,
                    others=rival_share(trace),
                )
            )
        at_s += gap_s
    return tuple(slots), tuple(dropped)


def _cut_s(state: SteadyState, begin_s: float, ends: Floats) -> float | None:
    if state.shape is not Shape.STEADY or not 0 < state.start < ends.size:
        return None
    return begin_s + float(ends[state.start - 1])


def _buckets(traces: Sequence[ProcessTrace], ends: Sequence[Floats], slots: Sequence[Slot], each: int) -> Buckets:
    rows: list[tuple[float, ...]] = []
    for trace, end, slot in zip(traces, ends, slots, strict=True):
        values = call_latency_ns(trace)
        for chunk in np.array_split(np.arange(values.size), min(each, values.size)):
            taken, begin = values[chunk], float(end[chunk[0] - 1]) if chunk[0] else 0.0
            middle = slot.begin_s + (begin + float(end[chunk[-1]])) / 2
            rows.append((middle, taken.min(), float(np.median(taken)), taken.max(), taken.size, slot.round))
        rows.append((slot.end_s, *[np.nan] * 5))
    at_s, low, median, high, calls, index = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return Buckets(at_s=at_s, low=low, median=median, high=high, calls=calls, round=index)


def _around(
    name: str, read: Callable[[ProcessTrace], list[float]], traces: Sequence[ProcessTrace], slots: Sequence[Slot]
) -> Curve | None:
    """What is taken before the first call and after the last one."""
    places: list[float] = []
    values: list[float] = []
    for trace, slot in zip(traces, slots, strict=True):
        times = read(trace)
        places += [*np.linspace(slot.begin_s, slot.end_s, len(times)).tolist(), slot.end_s]
        values += [*times, np.nan]
    if not np.isfinite(values).any():
        return None
    return Curve(name=name, at_s=np.array(places), value=np.array(values))


def _highest_frequency(sample: TelemetrySample) -> float | None:
    """Of all processors: idle ones rest at a low one."""
    return max((value for name, value in sample.values.items() if name.endswith("_freq_khz")), default=None)


def _temperatures(traces: Sequence[ProcessTrace], slots: Sequence[Slot], each: int) -> tuple[Curve, ...]:
    """The zones that moved most, since many never move."""
    names = {name for t in traces for s in timed_samples(t) for name in s.values if _ZONE.fullmatch(name)}
    reads = {name.removesuffix("_millicelsius"): _reader(name) for name in sorted(names)}
    curves = _curves(traces, slots, reads, each, np.fmax)
    moved = sorted(curves, key=lambda c: (-float(np.nanmax(c.value) - np.nanmin(c.value)), c.name))
    return tuple(sorted(moved[:_MOST_ZONES], key=lambda c: c.name))


def _reader(name: str) -> _Read:
    return lambda sample: sample.values.get(name)


def _curves(
    traces: Sequence[ProcessTrace], slots: Sequence[Slot], reads: Mapping[str, _Read], each: int, worst: np.ufunc
) -> list[Curve]:
    """One curve per sensor that told anything; of neighbouring readings the `worst` stays."""
    found = []
    for name, read in reads.items():
        at_s: list[float] = []
        values: list[float] = []
        for trace, slot in zip(traces, slots, strict=True):
            samples = timed_samples(trace)
            start_ns = trace.started_at_ns or (samples[0].at_ns if samples else 0)
            told = [((s.at_ns - start_ns) / 1e9, value) for s in samples if (value := read(s)) is not None]
            for after_s, value in _thinned(told, each, worst):
                at_s.append(min(max(slot.begin_s + after_s, slot.begin_s), slot.end_s))
                values.append(value)
            at_s.append(slot.end_s)
            values.append(np.nan)
        if np.isfinite(values).any():
            found.append(Curve(name=name, at_s=np.array(at_s), value=np.array(values)))
    return found


def _thinned(told: Sequence[tuple[float, float]], most: int, worst: np.ufunc) -> list[tuple[float, float]]:
    borders = np.unique(np.linspace(0, len(told), min(most, len(told)) + 1).astype(int))
    return [
        (float(np.mean([at_s for at_s, _ in told[a:b]])), float(worst.reduce([value for _, value in told[a:b]])))
        for a, b in pairwise(borders)
    ]
