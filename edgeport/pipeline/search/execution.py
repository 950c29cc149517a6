"""`edgeport tune` of artifacts: how they are best run on a device, beside what their runtimes do by themselves.

What is written to the output folder:

    best/         the artifact (or bundle) with the settings that were chosen; until then the runtime's own, or what an
                  earlier search for the same found
    tuned.json    what was measured of which execution, and the choice
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from edgeport.atomic import atomic_write
from edgeport.contracts import (
    Artifact,
    Device,
    DeviceFacts,
    EvaluateJob,
    ExecutionConfig,
    ExecutionSpace,
    Interval,
    LatencySummary,
    Limits,
    Measurement,
    OnProgress,
    Outcome,
    Precision,
    ProgressEvent,
    SingleStream,
    TimeJob,
    Tunable,
    digest_file,
    silent,
    to_jsonable,
)
from edgeport.errors import EdgeportError, MeasurementError, UsageError
from edgeport.pipeline.benchmarking.artifact import BenchSettings, Opened, open_artifact, write_feeds
from edgeport.pipeline.benchmarking.experiment import StoredRounds
from edgeport.pipeline.engine.input_tracking import session_state
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.engine.time_budget import Spending
from edgeport.pipeline.output.artifact_folder import BEST, load_artifact, make_room, save_tuned
from edgeport.pipeline.search.execution_variants import gives_huge_pages, in_huge_pages, without_huge_pages
from edgeport.pipeline.search.successive_halving import Choice, Goal, choose, halve, is_last, leaders, refine
from edgeport.store import Store

__all__ = ["BEST", "TUNED_FILE", "ExecutionAsked", "ExecutionTuned", "TunedArm", "tune_execution"]

TUNED_FILE = "tuned.json"
_BATCHES = (1, 2, 4, 8, 16)
_GUESS_S = 1.0
_PROCESS = "process"
_FIRST_ROUNDS, _MORE_ROUNDS = 1, 2
"""Of the first rung, and how many more each of the next has: it measures a third of the arms."""
_LEAST_ROUNDS = 6
"""With fewer pairs no interval is finite."""
_HUGE_PAGES = "huge pages"
_WORDS = {"last": "the last {} again", _HUGE_PAGES: "{}, with huge pages and without"}
"""Of a stage, with the number of its arms; all others are rungs."""


@dataclass(frozen=True, kw_only=True)
class ExecutionAsked:
    """What is looked for; see `edgeport.api.tune_execution`."""

    goal: Goal
    time_s: float = 300.0
    batches: tuple[int, ...] = ()
    backend: str = "onnxruntime"
    samples: Path | None = None
    preprocess: Path | None = None
    rounds: int = 10
    duration_s: float = 0.3
    device: str = "local"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.goal.of not in ("latency", "throughput"):
            raise UsageError(
                asked=f"tune for {self.goal.of!r}", found="no such goal", fix="take latency, or throughput"
            )
        if self.goal.p99_ns is not None and self.goal.of == "latency":
            raise UsageError(
                asked="tune for latency under a bound of p99",
                found="that the lowest latency needs none",
                fix="leave the bound out, or tune for throughput under it",
            )
        if any(batch < 1 for batch in self.batches):
            raise UsageError(asked="tune over batches", found="one below 1", fix="give 1 or more")


@dataclass(frozen=True, kw_only=True)
class TunedArm:
    """One execution that was measured to the end.

    Attributes:
        name: Of the artifact, where there are several, and the execution in words.
        artifact: Name of the artifact.
        execution: How it was run.
        default: It is what the runtime does by itself.
        summary: Of the last rounds.
        tail: Whether the bound is kept; PASS where there is none.

    """

    name: str
    artifact: str
    execution: ExecutionConfig
    default: bool
    summary: LatencySummary
    tail: Outcome = Outcome.PASS


@dataclass(frozen=True, kw_only=True)
class ExecutionTuned:
    """What a search for an execution found.

    Attributes:
        goal: "latency" or "throughput".
        p99_ns: The bound on a call; None for none.
        tried: Number of executions that were measured.
        arms: Those that were measured to the end, the chosen first.
        chosen: Name of the one that is saved; empty where nothing keeps to the bound.
        execution: Of the chosen.
        default: Name of the best of the runtimes' own.
        gain: Times the speed of that default, from pairs; None where it was not compared.
        finished: The search went its whole way in the time.
        spent_s: Seconds of measuring, those of earlier runs among them.
        reason: In a sentence.
        folder: The output folder.
        device: Where.

    """

    goal: str
    p99_ns: float | None
    tried: int
    arms: tuple[TunedArm, ...]
    chosen: str
    execution: ExecutionConfig | None
    default: str
    gain: Interval | None
    finished: bool
    spent_s: float
    reason: str
    folder: Path
    device: DeviceFacts
    outcome: Outcome
    schema_version: int = 1


def tune_execution(
    paths: Sequence[Path],
    asked: ExecutionAsked,
    *,
    output: Path,
    store: Path | None = None,
    fresh: bool = False,
    on_progress: OnProgress = silent,
) -> ExecutionTuned:
    """See `edgeport.api.tune_execution`."""
    from edgeport.devices.opening import open_device

    make_room(output, given=paths)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeport-tune-")))
        device = stack.enter_context(open_device(asked.device, scratch / "device"))
        settings = BenchSettings(
            backend=asked.backend,
            samples=asked.samples,
            preprocess=asked.preprocess,
            duration_s=asked.duration_s,
            device=asked.device,
            limits=asked.limits,
        )
        sources: dict[str, _Source] = {}
        for index, path in enumerate(paths):
            on_progress(ProgressEvent(stage="open", message=path.name))
            opened = open_artifact(path, settings, scratch / f"source-{index}")
            sources[_apart(opened.name, sources)] = _Source(path=path, opened=opened)
        arms = dict(_arms(sources, asked, device.facts()))
        jobs, feeds = _jobs(arms, sources, asked, settings, scratch, device)
        search = _Search(
            asked=asked,
            device=device,
            arms=arms,
            jobs=jobs,
            feeds=feeds,
            spending=Spending(
                limit_s=asked.time_s,
                store=Store(store, fresh=fresh),
                about="executions",
                clock=Clock(on_progress=on_progress),
            ),
            on_progress=on_progress,
        )
        if not search.found_before(output):
            (output / TUNED_FILE).unlink(missing_ok=True)  # it is of what is replaced
            save_tuned(arms[search.defaults[0]].artifact, arms[search.defaults[0]].source.path, output / BEST, None)
        choice, measured = search.run()
        return _result(search, choice, measured, output)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One artifact that was given."""

    path: Path
    opened: Opened


@dataclass(frozen=True, kw_only=True)
class _Arm:
    """One artifact, run in one way."""

    of: str
    source: _Source
    artifact: Artifact
    default: bool

    @property
    def execution(self) -> ExecutionConfig:
        return self.artifact.execution


def _apart(name: str, taken: Mapping[str, object]) -> str:
    number = 1 + sum(other == name or other.startswith(f"{name} #") for other in taken)
    return name if number == 1 else f"{name} #{number}"


def _arms(sources: Mapping[str, _Source], asked: ExecutionAsked, facts: DeviceFacts) -> Iterator[tuple[str, _Arm]]:
    """Name to arm: what each runtime does by itself, what its backend offers, and the artifact as it was built."""
    from edgeport.backends.registry import backend

    for name, source in sources.items():
        artifact = source.opened.artifact
        made = backend(artifact.backend)
        batches = _batches(source.opened, asked)
        space = ExecutionSpace(
            goal="latency" if asked.goal.of == "latency" else "throughput", cores=_cores(asked, facts), batches=batches
        )
        listed = list(made.executions(artifact, space)) if isinstance(made, Tunable) else []
        if not isinstance(made, Tunable) or not listed:
            raise UsageError(
                asked=f"tune how {name} is run",
                found=f"that {artifact.backend} offers no other way to run it",
                fix="give an artifact of onnxruntime or openvino without stages",
            )
        seen: set[ExecutionConfig] = set()
        for execution in (*listed, artifact.execution):
            if execution in seen:
                continue
            seen.add(execution)
            words = str(execution)
            yield (
                f"{name}: {words}" if len(sources) > 1 else words,
                _Arm(
                    of=name,
                    source=source,
                    artifact=made.with_execution(artifact, execution),
                    default=_is_default(execution, batches[0]),
                ),
            )


def _is_default(execution: ExecutionConfig, batch: int) -> bool:
    """What the runtime does where nothing is asked of it but a hint of what counts."""
    plain = ExecutionConfig(batch=batch)
    without = replace(execution, hint="", layout=SingleStream()) if execution.hint else execution
    return without == plain


def _batches(opened: Opened, asked: ExecutionAsked) -> tuple[int, ...]:
    """Numbers of samples in a call; one where the model's batch is fixed, or where what is computed depends on it."""
    own = opened.artifact.execution.batch
    free = bool(opened.inputs) and all(spec.shape and isinstance(spec.shape[0], str) for spec in opened.fed)
    dynamic = opened.artifact.precision is Precision.INT8_DYNAMIC  # a range is taken over the whole call
    if not free or dynamic or opened.state:
        return (own,)
    if asked.batches:
        return asked.batches
    return (own,) if asked.goal.of == "latency" else tuple(sorted({own, *_BATCHES}))


def _cores(asked: ExecutionAsked, facts: DeviceFacts) -> tuple[int, ...]:
    if asked.device == "local" and hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(max(1, facts.cores)))


def _jobs(
    arms: Mapping[str, _Arm],
    sources: Mapping[str, _Source],
    asked: ExecutionAsked,
    settings: BenchSettings,
    scratch: Path,
    device: Device,
) -> tuple[dict[str, TimeJob], list[str]]:
    """A job per arm, and the digests of what is fed; those of one artifact share it, and the outputs of it as built."""
    jobs: dict[str, TimeJob] = {}
    digests: list[str] = []
    for name, source in sources.items():
        mine = {arm: one for arm, one in arms.items() if one.of == name}
        opened, artifact = source.opened, source.opened.artifact
        most = max(one.execution.batch for one in mine.values())
        folder = scratch / f"feeds-{len(digests)}"
        folder.mkdir()
        fed = write_feeds(replace(opened, batch=most), settings, folder)
        digests.append(digest_file(fed))
        feeds = device.push(fed)
        evaluate = EvaluateJob(
            artifact=device.push(artifact.folder),
            entry=artifact.entry,
            session=artifact.session,
            settings=artifact.settings,
            feeds=feeds,
            outputs=device.reserve("outputs.npz"),
            batch=opened.batch,
            state=opened.state,
            limits=asked.limits,
        )
        device.run(evaluate)
        for arm, one in mine.items():
            jobs[arm] = TimeJob(
                artifact=evaluate.artifact,
                entry=artifact.entry,
                session=artifact.session,
                settings=one.artifact.settings,
                feeds=feeds,
                reference=evaluate.outputs,
                batch=one.execution.batch,
                state=opened.state,
                duration_s=asked.duration_s,
                scenario="single-stream" if asked.goal.of == "latency" else "offline",
                streams=1 if asked.goal.of == "latency" else one.execution.calls_at_once,
                limits=asked.limits,
            )
    return jobs, digests


@dataclass(kw_only=True)
class _Search:
    """The rungs and the last word, within a time that counts what the store knows as it counts what is measured."""

    asked: ExecutionAsked
    device: Device
    arms: Mapping[str, _Arm]
    jobs: Mapping[str, TimeJob]
    feeds: Sequence[str]
    spending: Spending
    on_progress: OnProgress
    finished: bool = True
    tried: set[str] = field(default_factory=set)

    @property
    def defaults(self) -> list[str]:
        """Names of the runtimes' own."""
        return [name for name, arm in self.arms.items() if arm.default]

    def found_before(self, output: Path) -> bool:
        """An earlier search for the same on this device left one of these: it stays until something better is known."""
        try:
            told = json.loads((output / TUNED_FILE).read_text(encoding="utf-8"))
            known = told["goal"], told["p99_ns"], told["device"]
            kept = load_artifact(output / BEST)
            plain = without_huge_pages(kept) or kept
        except (OSError, ValueError, KeyError, TypeError, EdgeportError):
            return False
        goal = self.asked.goal
        same = known == (goal.of, goal.p99_ns, to_jsonable(self.device.facts()))
        return same and not {kept.digest, plain.digest}.isdisjoint(arm.artifact.digest for arm in self.arms.values())

    def run(self) -> tuple[Choice, Mapping[str, Measurement]]:
        """Fewer and fewer arms, then the last word over fresh rounds; those that lead then once more in huge pages."""
        left, rung = tuple(self.arms), 0
        while not is_last(left, self.defaults):
            rounds = _FIRST_ROUNDS + _MORE_ROUNDS * rung
            if rung == 0:
                left = self._affordable(left)
            if len(left) < 2 or not self._has_time(rounds * len(left)):
                self.finished = False
                break
            measured = self._measure(f"rung {rung}", left, rounds)
            left, rung = halve(measured, self.asked.goal, self.defaults), rung + 1
            if not left:
                raise MeasurementError(
                    asked="tune how an artifact is run",
                    found="that nothing of it could be measured",
                    fix="see what edgeport bench says of it",
                )
        if not is_last(left, self.defaults):
            left = self._first_few(left, rung)
        last = self._rounds_left(len(left))
        if last < _LEAST_ROUNDS:
            self.finished = False
            left, last = tuple(arm for arm in left if arm in self.defaults) or left, 2
        measured = self._measure("last", left, last)
        return self._refined(choose(measured, self.defaults, self.asked.goal), measured)

    def _refined(self, choice: Choice, measured: Mapping[str, Measurement]) -> tuple[Choice, Mapping[str, Measurement]]:
        """The ways that lead beside themselves with huge pages, where the device gives these when asked."""
        leading = leaders(choice, measured, self.defaults, self.asked.goal)
        variants = self._in_huge_pages(leading) if leading and gives_huge_pages(self.device) else []
        if not variants:
            return choice, measured
        names = tuple(dict.fromkeys([choice.arm, *variants, *(arm for arm in leading if arm == choice.default)]))
        rounds = self._rounds_left(len(names))
        if rounds < _LEAST_ROUNDS:
            self.finished = False
            return choice, measured
        again = self._measure(_HUGE_PAGES, names, rounds)
        return refine(choice, again, variants, self.asked.goal), {**measured, **again}

    def _in_huge_pages(self, names: Sequence[str]) -> list[str]:
        """Names of new arms that are these in huge pages; none for what can't be run so, or was tried as it is."""
        found = []
        for name in names:
            arm = self.arms[name]
            artifact = in_huge_pages(arm.artifact)
            if artifact is None:
                continue
            turned = f"{name.removesuffix(str(arm.execution))}{artifact.execution}"
            if turned not in self.arms:
                self.arms = {**self.arms, turned: replace(arm, artifact=artifact, default=False)}
                self.jobs = {**self.jobs, turned: replace(self.jobs[name], settings=artifact.settings)}
                found.append(turned)
        return found

    def _affordable(self, arms: tuple[str, ...]) -> tuple[str, ...]:
        """As many as there is time for: the defaults, then of each artifact in turn as its backend offers them."""
        last_s = _LEAST_ROUNDS * (2 + len(self.defaults)) * self._each_s()
        count = int((self.asked.time_s - self.spending.spent_s - last_s) / (_FIRST_ROUNDS * self._each_s()))
        if count >= len(arms):
            return arms
        self.finished = False
        by_artifact: dict[str, list[str]] = {}
        for arm in arms:
            if arm not in self.defaults:
                by_artifact.setdefault(self.arms[arm].of, []).append(arm)
        in_turn = (arm for several in zip_longest(*by_artifact.values()) for arm in several if arm is not None)
        ordered = [*self.defaults, *in_turn]
        return tuple(ordered[: max(count, len(self.defaults))])

    def _first_few(self, left: tuple[str, ...], rung: int) -> tuple[str, ...]:
        """Where the time is up in the middle: the best of what is known, or the defaults alone."""
        if rung == 0:
            return tuple(arm for arm in left if arm in self.defaults)
        others = [arm for arm in left if arm not in self.defaults][:2]
        return (*others, *(arm for arm in left if arm in self.defaults))

    def _each_s(self) -> float:
        return self.spending.each_s(_PROCESS) or _GUESS_S

    def _has_time(self, processes: int) -> bool:
        """For so many processes, and the last word after them."""
        last = _LEAST_ROUNDS * (2 + len(self.defaults))
        return self.spending.spent_s + (processes + last) * self._each_s() <= self.asked.time_s

    def _rounds_left(self, arms: int) -> int:
        left = (self.asked.time_s - self.spending.spent_s) / (max(1, arms) * self._each_s())
        return min(self.asked.rounds, int(left))

    def _measure(self, stage: str, names: Sequence[str], rounds: int) -> Mapping[str, Measurement]:
        from edgeport.devices.experiment import run_rounds, to_measurements
        from edgeport.devices.latency.interference import without_disturbed

        self.tried |= set(names)
        jobs = {name: self.jobs[name] for name in names}
        facts = self.device.facts()
        seed = sum(stage.encode())
        key = self._key(stage, names, seed)
        stored = StoredRounds(store=self.spending.store, experiment=key)
        done = self.spending.step(
            _PROCESS,
            {**key, "rounds": rounds},
            lambda: run_rounds(
                self.device,
                jobs,
                rounds=rounds,
                seed=seed,
                find=stored.find,
                on_round=stored.keep,
                on_progress=self._told(stage, len(names)),
            ),
            units=rounds * len(names),
        )
        return without_disturbed(to_measurements(done, device=facts.digest))

    def _key(self, stage: str, names: Sequence[str], seed: int) -> dict[str, object]:
        """Everything that the traces depend on."""
        return {
            "tune": stage,
            "arms": {
                name: [self.arms[name].artifact.digest, self.arms[name].execution.calls_at_once] for name in names
            },
            "sessions": {name: session_state(self.arms[name].artifact.session) for name in names},
            "feeds": list(self.feeds),
            "goal": self.asked.goal.of,
            "seed": seed,
            "duration_s": self.asked.duration_s,
            "device": self.device.facts().digest,
        }

    def _told(self, stage: str, arms: int) -> OnProgress:
        def tell(event: ProgressEvent) -> None:
            left = max(0.0, self.asked.time_s - self.spending.spent_s - event.done * self._each_s())
            words = _WORDS.get(stage, f"{arms} ways to run it").format(arms)
            self.on_progress(replace(event, stage="tune", message=f"{words}: {event.message}", time_left_s=left))

        return tell


def _result(search: _Search, choice: Choice, measured: Mapping[str, Measurement], output: Path) -> ExecutionTuned:
    from edgeport.devices.latency.summary import summarise

    asked = search.asked
    rows = [
        TunedArm(
            name=name,
            artifact=search.arms[name].of,
            execution=search.arms[name].execution,
            default=search.arms[name].default,
            summary=summarise(one, (0.5, 0.99)),
            tail=choice.tails.get(name, Outcome.INVALID),
        )
        for name, one in measured.items()
    ]
    rows.sort(key=lambda row: (row.name != choice.arm, row.name))
    chosen = search.arms.get(choice.arm)
    found = ExecutionTuned(
        goal=asked.goal.of,
        p99_ns=asked.goal.p99_ns,
        tried=len(search.tried),
        arms=tuple(rows),
        chosen=choice.arm,
        execution=chosen.execution if chosen is not None else None,
        default=choice.default,
        gain=choice.gain,
        finished=search.finished,
        spent_s=search.spending.spent_s,
        reason=choice.reason,
        folder=output,
        device=search.device.facts(),
        outcome=choice.outcome,
    )
    if chosen is not None:
        summary = next((row.summary for row in rows if row.name == choice.arm), None)
        save_tuned(chosen.artifact, chosen.source.path, output / BEST, summary)
    atomic_write(output / TUNED_FILE, json.dumps(to_jsonable(found), indent=1, sort_keys=True))
    return found
