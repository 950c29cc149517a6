"""Whether somebody else used the machine while it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeport.contracts import Measurement, ProcessTrace
from edgeport.devices.latency.telemetry import canary_ns, exchange_ns, growth, timed_samples

__all__ = [
    "LARGEST_RIVAL",
    "disturbed_rounds",
    "far_apart",
    "neighbour_flags",
    "own_share",
    "rival_share",
    "steal_share",
    "without_disturbed",
]

LARGEST_RIVAL = 0.15
_LARGEST_STEAL = 0.02
_CANARY_RATIO = 1.25
_EXCHANGE_RATIO = 2.0
_LEAST_ROUNDS = 4


def neighbour_flags(measurement: Measurement) -> list[str]:
    """ "rival-load" where others had more than 15 % of the processors; "steal" where the hypervisor took over 2 %.

    Over all processes together: one that is hit is seen by the between-process interval. "processors-moved" where an
    exchange between processors took over twice as long beside one process as beside another.
    """  # noqa: D210 (the first word is a quoted flag)
    flags = []
    for name, share, most in (("rival-load", rival_share, LARGEST_RIVAL), ("steal", steal_share, _LARGEST_STEAL)):
        shares = [value for value in map(share, measurement.traces) if value is not None]
        if shares and float(np.mean(shares)) > most:
            flags.append(name)
    if far_apart(measurement.traces):
        flags.append("processors-moved")
    return flags


def rival_share(trace: ProcessTrace) -> float | None:
    """Part of the processors' time that other processes had while calls were timed, 0..1; None where unknown."""
    samples = timed_samples(trace)
    busy, own, capacity_s = growth(samples, "busy_ticks"), growth(samples, "own_cpu_us"), _capacity_s(trace)
    if busy is None or own is None or not capacity_s:
        return None
    return max(0.0, busy / samples[0].values["clock_tick_hz"] - own / 1e6) / capacity_s


def own_share(trace: ProcessTrace) -> float | None:
    """Part of the processors' time that the process itself had while calls were timed, 0..1; None where unknown."""
    own, capacity_s = growth(timed_samples(trace), "own_cpu_us"), _capacity_s(trace)
    return None if own is None or not capacity_s else own / 1e6 / capacity_s


def steal_share(trace: ProcessTrace) -> float | None:
    """Part of the processors' time that the hypervisor gave to others, 0..1; None where unknown."""
    samples = timed_samples(trace)
    steal, capacity_s = growth(samples, "steal_ticks"), _capacity_s(trace)
    if steal is None or not capacity_s:
        return None
    return steal / samples[0].values["clock_tick_hz"] / capacity_s


def disturbed_rounds(measurements: Mapping[str, Measurement]) -> tuple[int, ...]:
    """Rounds in which fixed work took too long, whatever the arms showed.

    Either the canary took over 1.25 times its usual time, or an exchange between processors over twice the shortest:
    the host of a virtual machine then had them apart, and calls that use several take up to 1.6 times as long. (The
    shortest, not the usual: they may be apart most of the time.)

    Only the fixed work decides, never the latencies: dropping what looks slow would be choosing the result. Below 4
    rounds there is no "usual", and none is dropped.
    """
    traces = [trace for measurement in measurements.values() for trace in measurement.traces]
    by_round: dict[int, list[float]] = {}
    for trace in traces:
        by_round.setdefault(trace.round, []).extend(canary_ns(trace))
    medians = {index: float(np.median(times)) for index, times in by_round.items() if times}
    if len(medians) < _LEAST_ROUNDS:
        return ()
    usual = float(np.median(list(medians.values())))
    slow = {index for index, time in medians.items() if time > _CANARY_RATIO * usual}
    return tuple(sorted(slow | {trace.round for trace in far_apart(traces)}))


def far_apart(traces: Iterable[ProcessTrace]) -> list[ProcessTrace]:
    """Those beside which an exchange took over twice the shortest one.

    Readings before the calls are compared with each other, and so are those after: a session may have changed which
    processors there are.
    """
    readings = [(trace, exchange_ns(trace)) for trace in traces]
    read = [times for _, times in readings if times]
    shortest: Sequence[float] = [min(times) for times in zip(*read, strict=False)] if read else []
    return [
        trace
        for trace, times in readings
        if any(time > _EXCHANGE_RATIO * least for time, least in zip(times, shortest, strict=False))
    ]


def without_disturbed(measurements: Mapping[str, Measurement], *, least: int = 6) -> dict[str, Measurement]:
    """The measurements without their disturbed rounds: whole blocks of all arms, never single calls.

    Each says so in a flag. Where fewer than `least` rounds would be left, all stay: the flags of the traces themselves
    then say that somebody else was there.
    """
    disturbed = disturbed_rounds(measurements)
    rounds = {trace.round for measurement in measurements.values() for trace in measurement.traces}
    if not disturbed or len(rounds) - len(disturbed) < least:
        return dict(measurements)
    flag = f"dropped-rounds:{len(disturbed)}"
    return {
        name: replace(
            measurement,
            traces=tuple(trace for trace in measurement.traces if trace.round not in disturbed),
            flags=(*measurement.flags, flag),
        )
        for name, measurement in measurements.items()
    }


def _capacity_s(trace: ProcessTrace) -> float:
    samples = timed_samples(trace)
    if len(samples) < 2:
        return 0.0
    return (samples[-1].at_ns - samples[0].at_ns) / 1e9 * samples[0].values.get("processors", 0.0)
