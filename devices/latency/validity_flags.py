"""Whether numbers may be used at all: every flag, what it means, and what it does to a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from edgeport.contracts import Measurement, Outcome
from edgeport.devices.latency.interference import neighbour_flags
from edgeport.devices.latency.overload import overload_flags
from edgeport.devices.latency.steady_portion import steady_states
from edgeport.devices.latency.steady_state import Shape
from edgeport.devices.latency.throttling import throttling_flags
from edgeport.devices.latency.timer import is_coarse

__all__ = ["FLAGS", "explain", "measurement_flags", "outcome_of"]

_INVALID, _INCONCLUSIVE, _NOTE = Outcome.INVALID, Outcome.INCONCLUSIVE, Outcome.PASS

FLAGS: Mapping[str, tuple[Outcome, str]] = MappingProxyType(
    {
        "outputs-mismatch": (_INVALID, "outputs of timed calls differ from the reference"),
        "output-shape": (_INVALID, "outputs of timed calls have another shape than the reference"),
        "nan-output": (_INVALID, "outputs of timed calls hold NaN, or an infinity that was not there before"),
        "unstable-output": (_INVALID, "the same input gave other outputs at the end than at the start"),
        "clock-step": (_INVALID, "the clock was set, or the machine slept, while calls were timed"),
        "throttled": (_INVALID, "the machine says that it throttled, or that its voltage was too low"),
        "power-mode": (_INVALID, "the board's power mode was changed while it was measured"),
        "frequency-drop": (_INVALID, "the processor's frequency fell by more than 5 %"),
        "coarse-clock": (_INVALID, "the readings are too short for their clock"),
        "too-fast": (_INVALID, "calls took less than 0.4 of the time that the device's own peak allows"),
        "emulated": (_INVALID, "the processor is emulated"),
        "native-benchmark": (
            _INCONCLUSIVE,
            "timed by the runtime's own program: outputs were not checked, and nobody watched for other load",
        ),
        "rival-load": (_INCONCLUSIVE, "other processes had more than 15 % of the processors"),
        "steal": (_INCONCLUSIVE, "the hypervisor took more than 2 % of the processors' time"),
        "paused": (_INCONCLUSIVE, "the process stood still: the machine slept, or somebody stopped it"),
        "overload": (_INCONCLUSIVE, "queries came faster than they could be answered, so that they waited ever longer"),
        "slowdown": (_INCONCLUSIVE, "processes got slower while they ran"),
        "cyclic": (_INCONCLUSIVE, "processes went back and forth between levels"),
        "no-steady-state": (_INCONCLUSIVE, "processes did not come to rest"),
        "too-short": (_INCONCLUSIVE, "processes with fewer than 10 readings"),
        "dropped-rounds": (_NOTE, "rounds in which the machine was disturbed were left out, of all arms"),
        "processors-moved": (
            _NOTE,
            "the host moved this machine's processors: near each other or apart, calls on several take other times",
        ),
        "near-peak": (_NOTE, "calls took less time than the measured peak allows; convolutions can (Winograd)"),
        "overhead-bound": (_NOTE, "the device's peak explains under 5 % of the time: overhead, not arithmetic"),
        "spikes": (_NOTE, "over 0.5 % of the calls took over 1.5 times the median"),
        "process-spread": (_NOTE, "processes differ by more than their calls explain"),
        "dependent-calls": (_NOTE, "calls are correlated; tails rest on processes, not on calls"),
    }
)
"""Name to the outcome that it forces (PASS: none) and its meaning."""

_UNSTEADY_SHARE = 0.2


def measurement_flags(measurement: Measurement) -> tuple[str, ...]:
    """Every flag of a measurement: those that the agent set, and those that its traces show."""
    traces = measurement.traces
    flags = {*measurement.flags, *(flag for trace in traces for flag in trace.flags)}
    if any(trace.outputs_match is False for trace in traces):
        flags.add("outputs-mismatch")
    if any(map(is_coarse, traces)):
        flags.add("coarse-clock")
    flags.update(throttling_flags(measurement), neighbour_flags(measurement), overload_flags(measurement))
    flags.update(_unsteady(measurement))
    return tuple(sorted(flags))


def outcome_of(flags: Iterable[str]) -> Outcome:
    """The worst that the flags allow; a flag that nobody knows makes it INVALID, not harmless."""
    outcomes = {FLAGS.get(flag.partition(":")[0], (_INVALID, ""))[0] for flag in flags}
    return next((outcome for outcome in (_INVALID, _INCONCLUSIVE) if outcome in outcomes), _NOTE)


def explain(flag: str) -> str:
    """What a flag means, in a sentence."""
    name, _, detail = flag.partition(":")
    meaning = FLAGS.get(name, (_INVALID, "unknown to this release"))[1]
    return f"{meaning} ({detail})" if detail else meaning


def _unsteady(measurement: Measurement) -> set[str]:
    """Shapes that more than a fifth of the processes have; a single process may always be unlucky."""
    shapes = [state.shape for state in steady_states(measurement)]
    unsteady = [shape for shape in shapes if shape is not Shape.STEADY]
    if not shapes or len(unsteady) <= _UNSTEADY_SHARE * len(shapes):
        return set()
    return {max(set(unsteady), key=unsteady.count).value}
