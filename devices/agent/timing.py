"""Times inference in this one process: load, first inference, warm-up, and the timed calls of a scenario."""

from __future__ import annotations

import gc
import math
import time
from array import array
from itertools import repeat
from typing import Any, Callable

from edgeport.devices.agent.arrays import (
    Arrays,
    has_nan,
    has_new_infinity,
    largest_difference,
    load_arrays,
)
from edgeport.devices.agent.barrier import Barrier
from edgeport.devices.agent.board_sensors import Programs
from edgeport.devices.agent.canary import canary_ns
from edgeport.devices.agent.clock import measure_timer, now_ns
from edgeport.devices.agent.cooling import cool_down
from edgeport.devices.agent.core_latency import exchange_ns
from edgeport.devices.agent.dynamic_batching import BatchingSession
from edgeport.devices.agent.facts import is_emulated
from edgeport.devices.agent.memory import peak_memory_bytes
from edgeport.devices.agent.scenarios import LoopTimes, multi_stream, offline, server
from edgeport.devices.agent.sensor_sampler import watching, with_looks
from edgeport.devices.agent.session_setup import SessionContext
from edgeport.devices.agent.sustained import sustained
from edgeport.devices.agent.telemetry import INTERVAL_NS, Telemetry

# A reading is long enough for one call from this many steps of the clock (rounding stays under 0.1 %) and this many
# times the cost of looking at it (which every reading holds: 0.5 %); shorter calls are timed several at once.
_RESOLUTIONS_PER_READING = 1000
_OVERHEADS_PER_READING = 200
_MOST_CALLS_PER_READING = 100_000
_WARMUP_READINGS = 20_000
_PROBE_CALLS = 32

Run = Callable[[], None]

_SCENARIOS = {"multi-stream": multi_stream, "offline": offline, "server": server}


def run_time_job(job: dict[str, Any]) -> dict[str, Any]:
    """Runs a `TimeJob`; the fields of a `ProcessTrace`.

    The same bound sample is run each time, in every stream (the data of a sample does not change the time of a dense
    network; several would mean copies inside or between the readings). The outputs of the last *timed* call of each
    stream are compared with the reference afterwards.
    """
    cooled = cool_down(job)
    timer = measure_timer()
    programs, telemetry = Programs(), Telemetry()
    telemetry.sample(**_fixed_work(), **programs.read(), **cooled)
    with watching(programs, job) as looks:
        trace = _timed(job, timer, telemetry)
    telemetry.sample(**_fixed_work(), **programs.read())
    flags = sorted({*trace["flags"], *telemetry.flags(), *(["emulated"] if is_emulated() else [])})
    return {**trace, "telemetry": with_looks(telemetry.samples, looks), "flags": flags}


def _timed(job: dict[str, Any], timer: dict[str, Any], telemetry: Telemetry) -> dict[str, Any]:
    """The fields of the trace, but for what the machine said meanwhile."""
    opened = SessionContext(job)
    telemetry.beside = opened.beside
    try:
        feeds = opened.batch(0, job["batch"])
        call = opened.bind(feeds)
        before = now_ns()
        call.run()
        first_inference_ns = now_ns() - before
        first_outputs = call.outputs()
        if opened.state:
            call, feeds = _warm_state(opened, call)
            first_outputs = call.outputs()
        if job.get("gather_most", 1) > 1:
            most, wait_ns, streams = job["gather_most"], job["gather_wait_ns"], job["gather_streams"]
            opened.session = BatchingSession(opened.session, most, wait_ns, streams, feeds)
            call = opened.bind(feeds)
            call.run()
        warmup = warm_up(call.run, job["warmup_s"])
        calls = [call, *(opened.bind(feeds) for _ in range(1, job["streams"]))]
        for other in calls[1:]:
            other.run()
        if job["idle_s"]:
            _rest(job["idle_s"], telemetry)
        meeting = Barrier(job["meet"], job["meet_index"]) if job.get("meet") else None
        if meeting is not None:
            meeting.begin(call.run)
        if job["scenario"] in _ONE_BY_ONE:
            # All processes of an experiment are read alike: the first one chooses.
            calls_per_reading = job["calls_per_reading"] or choose_calls_per_reading(call.run, timer, warmup)
            timed = _ONE_BY_ONE[job["scenario"]](call.run, job, calls_per_reading, telemetry)
        else:
            timed = _SCENARIOS[job["scenario"]]([each.run for each in calls], job, telemetry)
        if meeting is not None:
            meeting.end(call.run)
        outputs = [each.outputs() for each in calls]
        peak_bytes = peak_memory_bytes(opened.beside)  # before the reference is read, which is no part of the model
    finally:
        opened.session.close()
    difference, match, flags = check_outputs(job, outputs, first_outputs)
    return {
        "artifact_digest": opened.digest,
        "round": job["round"],
        "position": job["position"],
        "import_ns": opened.import_ns,
        "load_ns": opened.load_ns,
        "cold": opened.cold,
        "first_inference_ns": first_inference_ns,
        "warmup_ns": warmup,
        "latency_ns": timed.latency_ns,
        "calls_per_reading": timed.calls_per_reading,
        "started_at_ns": timed.started_at_ns,
        "scenario": job["scenario"],
        "samples": timed.calls * job["batch"],
        "elapsed_ns": timed.elapsed_ns,
        "peak_memory_bytes": peak_bytes,
        "timer": timer,
        "outputs_match": match,
        "output_difference": difference,
        "flags": flags,
    }


def _fixed_work() -> dict[str, float]:
    """What takes longer where somebody else uses the machine, or its host moves it."""
    found = {"canary_ns": float(canary_ns())}
    exchange = exchange_ns()
    return found if exchange is None else {**found, "exchange_ns": float(exchange)}


def _warm_state(opened: SessionContext, call: Any) -> tuple[Any, Arrays]:
    """The call of the last sample with the state that the others, fed before it, have left; it has run once."""
    feeds: Arrays = {}
    for step in range(1, opened.count):
        feeds = {**opened.batch(step, 1), **opened.fed_back(call.outputs())}
        call = opened.bind(feeds)
        call.run()
    return call, feeds or opened.batch(0, 1)


def _rest(idle_s: float, telemetry: Telemetry) -> None:
    """The machine with the model loaded, doing nothing: what the energy of the calls is counted above."""
    telemetry.sample(idle_starts=1.0)
    time.sleep(idle_s)
    telemetry.sample(idle_ends=1.0)


def warm_up(run: Run, warmup_s: float) -> list[int]:
    """Calls for at least `warmup_s` seconds, at least once; returns the first readings, nanoseconds each."""
    readings = array("q", bytes(8 * _WARMUP_READINGS))
    until = now_ns() + int(1e9 * warmup_s)
    count = timed_block(run, readings, 0, _WARMUP_READINGS, until)
    while now_ns() < until:
        run()
    return readings[:count].tolist()


def choose_calls_per_reading(run: Run, timer: dict[str, Any], warmup: list[int]) -> int:
    """As many calls as one reading needs to be long against a step of the clock and the cost of looking at it."""
    needed_ns: int = max(
        _RESOLUTIONS_PER_READING * timer["resolution_ns"], _OVERHEADS_PER_READING * timer["overhead_ns"]
    )
    if sorted(warmup)[len(warmup) // 2] >= needed_ns:
        return 1
    group = max(1, _PROBE_CALLS // 8)
    fastest_ns = []
    for _ in range(8):
        before = now_ns()
        for _ in repeat(None, group):
            run()
        fastest_ns.append((now_ns() - before) / group)
    # The fastest group: one that was interrupted would make the readings too short for their clock.
    call_ns = max(1.0, min(fastest_ns))
    return max(1, min(_MOST_CALLS_PER_READING, math.ceil(needed_ns / call_ns)))


def single_stream(run: Run, job: dict[str, Any], calls_per_reading: int, telemetry: Telemetry) -> LoopTimes:
    """One call after the other, in blocks of readings with a look at the sensors between two blocks.

    The collector of garbage is off, the array is there before: the loop allocates nothing that outlives a turn.
    """
    most, least = job["maximum_calls"], job["minimum_calls"]
    readings = array("q", bytes(8 * most))
    timed = run if calls_per_reading == 1 else _several(run, calls_per_reading)
    count = 0
    gc.collect()
    gc.disable()
    try:
        telemetry.sample()
        started_at_ns = now_ns()
        deadline = started_at_ns + int(1e9 * job["duration_s"])
        while count < most:
            at_ns = now_ns()
            if at_ns >= deadline and count >= least:
                break
            # After the deadline only the calls up to the minimum are left.
            stop = most if at_ns < deadline else min(most, max(least, count + 1))
            until = min(at_ns + INTERVAL_NS, deadline) if at_ns < deadline else at_ns + INTERVAL_NS
            count = timed_block(timed, readings, count, stop, until)
            telemetry.sample()
    finally:
        gc.enable()
    taken = readings[:count].tolist()
    return LoopTimes(started_at_ns, taken, count * calls_per_reading, sum(taken), calls_per_reading)


# One call after the other: the scenario to the function that times it.
_ONE_BY_ONE = {"single-stream": single_stream, "sustained": sustained}


def timed_block(run: Run, readings: array[int], start: int, stop: int, until: int) -> int:
    """Fills `readings[start:stop]` until the clock says `until`, at least one; returns the index after the last."""
    clock = now_ns
    index = start
    while index < stop:
        before = clock()
        run()
        after = clock()
        readings[index] = after - before
        index += 1
        if after >= until:
            break
    return index


def _several(run: Run, calls: int) -> Run:
    def several() -> None:
        for _ in repeat(None, calls):
            run()

    return several


def check_outputs(
    job: dict[str, Any], outputs: list[Arrays], first_outputs: Arrays
) -> tuple[float | None, bool | None, list[str]]:
    """Largest difference to the reference over streams, whether it is within the job's tolerance, and flags."""
    flags = ["nan-output"] if any(has_nan(one) or has_new_infinity(one, first_outputs) for one in outputs) else []
    drifts = [largest_difference(one, first_outputs)[0] for one in outputs]
    if any(drift is None or drift > job["output_tolerance"] for drift in drifts):
        flags.append("unstable-output")  # same input, other numbers
    if job["reference"] is None:
        return None, None, flags
    reference = load_arrays(job["reference"])
    found = [largest_difference(one, reference, int(job.get("reference_row") or 0)) for one in outputs]
    if any(faults for _, faults in found):
        flags.append("output-shape")
    differences = [difference for difference, _ in found if difference is not None]
    worst = max(differences) if len(differences) == len(found) else None
    return worst, worst is not None and worst <= job["output_tolerance"], flags
