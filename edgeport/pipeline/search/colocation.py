"""`edgeport schedule`: several models at work on one device, and processors and priorities that keep each budget.

What is measured: each model alone on so many processors; then all of them at the same time, each in a process of its
own, first as their artifacts are, then in the ways that the solo measurements leave open.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeport.atomic import atomic_write
from edgeport.contracts import (
    Artifact,
    Device,
    DeviceFacts,
    Limits,
    Measurement,
    OnProgress,
    Outcome,
    ProcessTrace,
    ProgressEvent,
    TaskParallel,
    TimeJob,
    Tunable,
    silent,
    to_jsonable,
)
from edgeport.errors import UsageError
from edgeport.pipeline.benchmarking.artifact import BenchSettings, open_artifact, time_job
from edgeport.pipeline.output.artifact_folder import make_room, save_tuned
from edgeport.pipeline.search.core_partitions import Share, as_executions, fastest_first, promising, shares, turned
from edgeport.pipeline.selection.constraints import judge_bound
from edgeport.recipe.bounds import Bound, BoundKind

__all__ = ["SCHEDULE_FILE", "Resident", "ScheduleResult", "Tried", "measure_together", "schedule"]

SCHEDULE_FILE = "schedule.json"
_SOLO_ROUNDS = 3
_QUICK_ROUNDS = 3
_FAR = 1.1
"""A quantile so far over its limit after few rounds is not measured on."""


@dataclass(frozen=True, kw_only=True)
class Resident:
    """One model of a way that was tried.

    Attributes:
        name: Of the model.
        quantile_ns: Of its budget, beside the others; the median over processes of theirs.
        alone_ns: The same with nothing else at work, on as many processors; None where it was not measured so.
        limit_ns: Its budget.
        outcome: Whether it is kept.
        reason: In a sentence.

    """

    name: str
    quantile_ns: float
    alone_ns: float | None
    limit_ns: float
    outcome: Outcome
    reason: str

    @property
    def interference(self) -> float | None:
        """Times as long as alone."""
        return self.quantile_ns / self.alone_ns if self.alone_ns else None


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way to run all of them at once, as it was measured.

    Attributes:
        name: In a line.
        layout: Settings by model; None for the artifacts as they are.
        residents: In the order of the models.
        outcome: The worst of theirs.

    """

    name: str
    layout: TaskParallel | None
    residents: tuple[Resident, ...]
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class ScheduleResult:
    """What was found.

    Attributes:
        budgets: Model to what it is held to.
        alone_ns: Model to number of processors to its quantile when nothing else runs.
        tried: The ways that were measured, in order.
        chosen: Name of the way that keeps every budget; empty where none does.
        impossible: Ways that were not measured, for some model is over its budget in them even alone.
        outcome: PASS with a way, FAIL where there is none, INCONCLUSIVE where one may be.
        reason: In a sentence.
        folder: The output folder.
        device: Where.

    """

    budgets: Mapping[str, str]
    alone_ns: Mapping[str, Mapping[int, float]]
    tried: tuple[Tried, ...]
    chosen: str
    impossible: int
    outcome: Outcome
    reason: str
    folder: Path
    device: DeviceFacts
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class _Model:
    """An artifact and its job."""

    name: str
    path: Path
    artifact: Artifact
    job: TimeJob
    bound: Bound

    def run_as(self, layout: TaskParallel | None) -> tuple[Artifact, TimeJob]:
        """Its artifact and job in a layout; as they are in none."""
        if layout is None:
            return self.artifact, self.job
        from edgeport.backends.registry import backend

        made = backend(self.artifact.backend)
        if not isinstance(made, Tunable):
            raise UsageError(
                asked=f"give {self.name} processors of its own",
                found=f"that {self.artifact.backend} offers no other way to run it",
                fix="give artifacts of onnxruntime or openvino",
            )
        execution = replace(layout.residents[self.name], batch=self.artifact.execution.batch)
        artifact = made.with_execution(self.artifact, execution)
        return artifact, replace(self.job, settings=artifact.settings)


def schedule(  # noqa: PLR0913 (those of the API)
    models: Mapping[str, tuple[Path, Bound]],
    *,
    output: Path,
    samples: Mapping[str, Path] | None = None,
    backend: str = "onnxruntime",
    rounds: int = 10,
    duration_s: float = 0.5,
    on_progress: OnProgress = silent,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> ScheduleResult:
    """See `edgeport.api.schedule`."""
    from edgeport.devices.opening import open_device

    _check(models)
    make_room(output, tuple(models), [path for path, _ in models.values()])
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-schedule-")))
        device = stack.enter_context(open_device("local", scratch / "device"))
        opened = []
        for index, (name, (path, bound)) in enumerate(models.items()):
            on_progress(ProgressEvent(stage="open", message=name))
            settings = BenchSettings(
                backend=backend, samples=(samples or {}).get(name), duration_s=duration_s, limits=limits
            )
            one = open_artifact(path, settings, scratch / f"model-{index}")
            job = time_job(one, settings, scratch / f"feeds-{index}", device)
            opened.append(_Model(name=name, path=path, artifact=one.artifact, job=job, bound=bound))
        return _Search(device=device, models=opened, rounds=rounds, output=output, on_progress=on_progress).run()


def _check(models: Mapping[str, tuple[Path, Bound]]) -> None:
    if len(models) < 2:
        raise UsageError(
            asked="schedule models beside each other", found=f"{len(models)} of them", fix="give two or more"
        )
    other = next((bound for _, bound in models.values() if bound.kind is not BoundKind.LATENCY), None)
    if other is not None:
        raise UsageError(
            asked=f"schedule models by {other}", found="no bound of a latency", fix="give one, such as p90=20ms"
        )


@dataclass(kw_only=True)
class _Search:
    device: Device
    models: Sequence[_Model]
    rounds: int
    output: Path
    on_progress: OnProgress
    alone: dict[str, dict[int, float]] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    alone_is_sure: bool = True
    surely_over: set[tuple[str, int]] = field(default_factory=set)
    """Model and number of processors with which it breaks its budget even alone, whatever else was at work."""

    def run(self) -> ScheduleResult:
        """Alone; together as they are; together in what the first leaves open, until every budget is kept.

        What is in doubt at the end is tried once more, with the processors counted from their other end.
        """
        cores = fastest_first(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
        self._measure_alone(cores)
        ratios = {
            model.name: {count: ns / model.bound.limit for count, ns in self.alone[model.name].items()}
            for model in self.models
        }
        hardest_first = sorted(ratios, key=lambda name: -min(ratios[name].values()))
        # Whose budget is the hardest differs from run to run; in each way they are told in the order of the models.
        ways = [{name: way[name] for name in ratios} for way in shares(hardest_first, cores)]
        open_ways = promising(ways, ratios)
        chosen = self._try("as they are", None) or self._first_kept(open_ways)
        in_doubt = {one.name for one in self.tried if one.outcome is Outcome.INCONCLUSIVE}
        again = [turned(way, cores) for way in open_ways if str(as_executions(way)) in in_doubt]
        chosen = chosen or self._first_kept(way for way in again if way not in ways)
        ruled_out = [way for way in ways if way not in open_ways]
        doubtful = not self.alone_is_sure and any(
            all((name, len(one.cores)) not in self.surely_over for name, one in way.items()) for way in ruled_out
        )
        return self._result(chosen, impossible=len(ruled_out), doubtful=doubtful)

    def _first_kept(self, ways: Iterable[Mapping[str, Share]]) -> Tried | None:
        layouts = (as_executions(way) for way in ways)
        return next((kept for layout in layouts if (kept := self._try(str(layout), layout)) is not None), None)

    def _measure_alone(self, cores: Sequence[int]) -> None:
        from edgeport.devices.experiment import run_rounds, to_measurements
        from edgeport.devices.latency.validity_flags import measurement_flags

        counts = sorted({2**power for power in range(len(cores).bit_length()) if 2**power <= len(cores)} | {len(cores)})
        counts = list(range(1, len(cores) + 1)) if len(cores) <= 4 else counts
        arms = {}
        for model in self.models:
            for count in counts:
                layout = as_executions({model.name: _share(cores[:count])})
                arms[f"{model.name} alone on {count}"] = (model.name, count, model.run_as(layout)[1])
        done = run_rounds(
            self.device,
            {name: job for name, (_, _, job) in arms.items()},
            rounds=_SOLO_ROUNDS,
            on_progress=self.on_progress,
        )
        bounds = {model.name: model.bound for model in self.models}
        for arm, one in to_measurements(done, device=self.device.facts().digest).items():
            name, count, _ = arms[arm]
            self.alone_is_sure = self.alone_is_sure and not {"rival-load", "steal"} & set(measurement_flags(one))
            self.alone.setdefault(name, {})[count] = quantile_ns(one, bounds[name].q)
            if judge_bound(bounds[name], one, size_bytes=0).outcome is Outcome.FAIL:
                self.surely_over.add((name, count))
        for known in self.alone.values():  # what was not measured lies between: as with the next fewer
            for count in range(1, len(cores) + 1):
                known.setdefault(count, known[max(other for other in known if other <= count)])

    def _try(self, name: str, layout: TaskParallel | None) -> Tried | None:
        """Measures a way; itself, where it keeps every budget."""
        jobs = {model.name: model.run_as(layout)[1] for model in self.models}
        measured = measure_together(self.device, jobs, rounds=_QUICK_ROUNDS, told=self._told(name))
        far = any(quantile_ns(measured[model.name], model.bound.q) > _FAR * model.bound.limit for model in self.models)
        if not far:
            more = measure_together(
                self.device,
                jobs,
                rounds=max(2, self.rounds - _QUICK_ROUNDS),
                first=_QUICK_ROUNDS,
                told=self._told(name),
            )
            measured = {key: replace(one, traces=(*one.traces, *more[key].traces)) for key, one in measured.items()}
        measured = _known_neighbours(measured)
        residents = tuple(self._judged(model, measured[model.name], layout) for model in self.models)
        outcomes = [one.outcome for one in residents]
        worst = next(
            (bad for bad in (Outcome.INVALID, Outcome.FAIL, Outcome.INCONCLUSIVE) if bad in outcomes), Outcome.PASS
        )
        self.tried.append(Tried(name=name, layout=layout, residents=residents, outcome=worst))
        return self.tried[-1] if worst is Outcome.PASS else None

    def _judged(self, model: _Model, measured: Measurement, layout: TaskParallel | None) -> Resident:
        verdict = judge_bound(model.bound, measured, size_bytes=0)
        count = len(layout.residents[model.name].affinity) if layout is not None else None
        return Resident(
            name=model.name,
            quantile_ns=quantile_ns(measured, model.bound.q),
            alone_ns=self.alone[model.name].get(count) if count is not None else None,
            limit_ns=float(model.bound.limit),
            outcome=verdict.outcome,
            reason=verdict.reason,
        )

    def _told(self, name: str) -> OnProgress:
        return lambda event: self.on_progress(replace(event, message=f"{name}: {event.message}"))

    def _result(self, chosen: Tried | None, *, impossible: int, doubtful: bool) -> ScheduleResult:
        open_ = [one for one in self.tried if one.outcome in (Outcome.INCONCLUSIVE, Outcome.INVALID)]
        if chosen is not None:
            outcome, reason = (
                Outcome.PASS,
                "every budget is kept"
                + (" as they are: nothing needs to be scheduled" if chosen.layout is None else ""),
            )
        else:
            unsure = bool(open_) or doubtful
            outcome = Outcome.INCONCLUSIVE if unsure else Outcome.FAIL
            nearest = min(self.tried, key=lambda one: max(each.quantile_ns / each.limit_ns for each in one.residents))
            worst = max(nearest.residents, key=lambda each: each.quantile_ns / each.limit_ns)
            words = "no way is sure to keep" if unsure else "no way keeps"
            share = f"{worst.name} takes {worst.quantile_ns / worst.limit_ns:.3g} of its limit"
            doubts = "; ".join(
                dict.fromkeys(one.reason for one in nearest.residents if one.outcome is not Outcome.PASS)
            )
            reason = f"{words} every budget; the nearest is {nearest.name}, where {share}: {doubts}"
        found = ScheduleResult(
            budgets={model.name: str(model.bound) for model in self.models},
            alone_ns=self.alone,
            tried=tuple(self.tried),
            chosen=chosen.name if chosen is not None else "",
            impossible=impossible,
            outcome=outcome,
            reason=reason,
            folder=self.output,
            device=self.device.facts(),
        )
        if chosen is not None:
            for model in self.models:
                save_tuned(model.run_as(chosen.layout)[0], model.path, self.output / model.name, None)
        atomic_write(self.output / SCHEDULE_FILE, json.dumps(to_jsonable(found), indent=1, sort_keys=True))
        return found


def _share(cores: Sequence[int]) -> Share:
    return Share(cores=tuple(cores))


def measure_together(
    device: Device, jobs: Mapping[str, TimeJob], *, rounds: int, first: int = 0, told: OnProgress = silent
) -> dict[str, Measurement]:
    """Every job in a process of its own, all of them at work at the same time, again and again.

    Args:
        device: That can run several jobs at once: this machine.
        jobs: By name.
        rounds: How often.
        first: Index of the first round.
        told: Of every round.

    Raises:
        EdgeportError: What became of a process.

    """
    traces: dict[str, list[ProcessTrace]] = {name: [] for name in jobs}
    for index in range(first, first + rounds):
        told(ProgressEvent(stage="together", message=f"round {index + 1}", done=index, total=first + rounds))
        places = [device.reserve("meeting") for _ in jobs]
        try:
            with ThreadPoolExecutor(len(jobs)) as pool:
                running = {
                    name: pool.submit(
                        device.run, replace(job, round=index, position=0, meet=tuple(places), meet_index=number)
                    )
                    for number, (name, job) in enumerate(jobs.items())
                }
                for name, one in running.items():
                    traces[name].append(one.result())
        finally:
            for place in places:
                device.discard(place)
    facts = device.facts().digest
    return {
        name: Measurement(artifact_digest=kept[0].artifact_digest, device=facts, seed=0, traces=tuple(kept))
        for name, kept in traces.items()
    }


def quantile_ns(measurement: Measurement, q: float) -> float:
    """The quantile of each process's calls, and the median of these over processes."""
    import numpy as np

    from edgeport.devices.latency.steady_portion import steady_latencies

    return float(np.median([np.quantile(values, q) for values in steady_latencies(measurement) if len(values)]))


def _known_neighbours(measured: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """The measurements without the readings by which a process would take its neighbours here for strangers.

    Where others than these had the processors, the flag that says so is set.
    """
    from edgeport.devices.latency.interference import LARGEST_RIVAL, own_share, rival_share

    own: dict[int, float] = {}
    for one in measured.values():
        for trace in one.traces:
            own[trace.round] = own.get(trace.round, 0.0) + (own_share(trace) or 0.0)
    found = {}
    for name, one in measured.items():
        strangers = [
            share - own[trace.round] + (own_share(trace) or 0.0)
            for trace in one.traces
            if (share := rival_share(trace)) is not None
        ]
        disturbed = bool(strangers) and sum(strangers) / len(strangers) > LARGEST_RIVAL
        traces = tuple(
            replace(
                trace,
                telemetry=tuple(
                    replace(sample, values={key: value for key, value in sample.values.items() if key != "busy_ticks"})
                    for sample in trace.telemetry
                ),
            )
            for trace in one.traces
        )
        found[name] = replace(one, traces=traces, flags=(*one.flags, "rival-load") if disturbed else one.flags)
    return found
