"""The order in which artifacts are measured: fresh processes, interleaved at random, round by round."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeport.contracts import Device, Measurement, OnProgress, ProcessTrace, ProgressEvent, TimeJob, silent
from edgeport.errors import DeviceLost, EdgeportError, MeasurementError

__all__ = ["Find", "More", "OnRound", "Round", "order_of_round", "run_rounds", "to_measurements"]

_MARGIN_MILLICELSIUS = 2000.0
"""Above what the hottest zone was before the first process: a zone hardly cools to the same degree twice."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One process of each arm, one after the other; a block that is kept or dropped as a whole.

    Attributes:
        index: 0, 1, ...
        seed: Of the experiment.
        traces: By name of the arm.
        errors: `EdgeportError.to_dict` by name of the arm; such an arm is not in later rounds.

    """

    index: int
    seed: int
    traces: Mapping[str, ProcessTrace]
    errors: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    schema_version: int = 1


OnRound = Callable[[Round], None]
Find = Callable[[int, Mapping[str, TimeJob]], "Round | None"]
"""Told of a round's index and the jobs of the arms that are left; gives the round, where it was run before."""
More = Callable[[Sequence[Round]], bool]
"""Told of all rounds so far, once the wanted ones are done; says whether to measure another one."""


def run_rounds(  # noqa: PLR0913 (an experiment has these choices, each with a default)
    device: Device,
    jobs: Mapping[str, TimeJob],
    *,
    rounds: int = 10,
    seed: int = 0,
    done: Iterable[Round] = (),
    find: Find = lambda _index, _jobs: None,
    more: More = lambda _: False,
    on_round: OnRound = lambda _: None,
    on_progress: OnProgress = silent,
) -> tuple[Round, ...]:
    """Runs each arm once per round, in an order that is drawn anew for each round from the seed.

    An arm that fails is dropped from later rounds, its error is recorded, and the others go on. Each round is handed
    out when it is done; given back as `done`, it is not run again, and the rest runs as it would have.

    Args:
        device: Where.
        jobs: By name of the arm; round and position are filled in here.
        rounds: Fresh processes per arm; 10 or more for a verdict.
        seed: Of the order.
        done: Rounds of an earlier run of this experiment.
        find: Asked before each round that is not in `done`: as `done`, but it knows which arms have failed by then,
            and how many calls each reading must hold.
        more: Asked after the last round, and again after each further one.
        on_round: Told of each new round; stores it.
        on_progress: Told before each process.

    Returns:
        As many rounds as were asked for, in their order, those of `done` among them.

    Raises:
        DeviceLost: The device is gone; the rounds before were handed out.
        MeasurementError: `done` is of another experiment.

    """
    earlier = {one.index: one for one in done}
    _check(earlier, jobs, seed)
    failed = {name for one in earlier.values() for name in one.errors}
    finished: list[Round] = []
    while len(finished) < rounds or more(finished):
        index = len(finished)
        one = earlier.get(index)
        if one is None:
            alike = _read_alike(jobs, finished)
            one = find(index, {name: job for name, job in alike.items() if name not in failed})
            if one is not None:
                _check({index: one}, jobs, seed)
            else:
                steps = _Steps(max(rounds, index + 1), on_progress)
                one = _run_round(
                    device, _as_cool(alike, finished), failed, Round(index=index, seed=seed, traces={}), steps
                )
                on_round(one)
            failed |= one.errors.keys()
        finished.append(one)
    return tuple(finished)


def order_of_round(names: Iterable[str], *, seed: int, index: int) -> list[str]:
    """The arms of a round in their order; the same for the same names, seed and index on every machine."""
    order = sorted(names)
    random.Random(f"{seed}:{index}").shuffle(order)  # noqa: S311 (an order, no secret)
    return order


def to_measurements(rounds: Iterable[Round], *, device: str) -> dict[str, Measurement]:
    """All traces of each arm that has any.

    Args:
        rounds: Of one experiment.
        device: `DeviceFacts.digest`.

    Raises:
        ContractError: The traces of an arm are of different artifacts.

    """
    traces: dict[str, list[ProcessTrace]] = {}
    seed = 0
    for one in rounds:
        seed = one.seed
        for name, trace in one.traces.items():
            traces.setdefault(name, []).append(trace)
    return {
        name: Measurement(artifact_digest=kept[0].artifact_digest, device=device, seed=seed, traces=tuple(kept))
        for name, kept in traces.items()
    }


def _read_alike(jobs: Mapping[str, TimeJob], finished: Sequence[Round]) -> dict[str, TimeJob]:
    """The jobs, each with as many calls per reading as the arm's earliest process chose.

    Near the bound a process more or less disturbed would choose otherwise, and the tail of readings that hold one
    call can't be put together with the mean of several.
    """
    chosen: dict[str, int] = {}
    for one in finished:
        for name, trace in one.traces.items():
            chosen.setdefault(name, trace.calls_per_reading)
    return {name: replace(job, calls_per_reading=chosen.get(name, job.calls_per_reading)) for name, job in jobs.items()}


def _as_cool(jobs: Mapping[str, TimeJob], finished: Sequence[Round]) -> dict[str, TimeJob]:
    """The jobs, each of which waits until the device is as cool as before the experiment's first process."""
    traces = [trace for one in finished[:1] for trace in one.traces.values()]
    first = min(traces, key=lambda trace: trace.position, default=None)
    return {name: _cooled(job, first) for name, job in jobs.items()}


def _cooled(job: TimeJob, first: ProcessTrace | None) -> TimeJob:
    if not job.cool_down_s or job.cool_to_millicelsius is not None or first is None or not first.telemetry:
        return job
    values = first.telemetry[0].values
    heat = [value for name, value in values.items() if name.startswith("zone") and name.endswith("_millicelsius")]
    return replace(job, cool_to_millicelsius=max(heat) + _MARGIN_MILLICELSIUS) if heat else job


@dataclass(frozen=True, kw_only=False)
class _Steps:
    rounds: int
    tell: OnProgress


def _run_round(device: Device, jobs: Mapping[str, TimeJob], failed: set[str], one: Round, steps: _Steps) -> Round:
    traces: dict[str, ProcessTrace] = {}
    errors: dict[str, Mapping[str, object]] = {}
    # The order is drawn over all arms, so that the loss of one does not change that of the others.
    order = [name for name in order_of_round(jobs, seed=one.seed, index=one.index) if name not in failed]
    for position, name in enumerate(order):
        message = f"{name}, process {one.index + 1} of {steps.rounds}"
        done, total = one.index * len(order) + position, steps.rounds * len(order)
        steps.tell(ProgressEvent(stage="measure", message=message, done=done, total=total))
        try:
            # The first process of each arm shows what the first load takes; the others find the files in memory.
            job = replace(jobs[name], round=one.index, position=position, cold=one.index == 0)
            traces[name] = device.run(_cooled(job, next(iter(traces.values()), None)))
        except DeviceLost:
            raise
        except EdgeportError as error:
            errors[name] = error.to_dict()
    return replace(one, traces=traces, errors=errors)


def _check(finished: Mapping[int, Round], jobs: Mapping[str, TimeJob], seed: int) -> None:
    for one in finished.values():
        foreign = (one.traces.keys() | one.errors.keys()) - jobs.keys()
        if one.seed != seed or foreign:
            raise MeasurementError(
                asked=f"go on with an experiment of seed {seed} and arms {', '.join(sorted(jobs))}",
                found=f"a round of seed {one.seed}" + (f" with arms {', '.join(sorted(foreign))}" if foreign else ""),
                fix="start it anew, without the stored rounds",
            )
