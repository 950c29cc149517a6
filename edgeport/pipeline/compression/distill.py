"""A student learns from a teacher in a child; where latency decides its size, that is measured.

A command (`distill_source`) and a step of a recipe (`distill_in_run`) do it with a workbench each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import (
    Change,
    DistillStep,
    Limits,
    ModelSource,
    OnProgress,
    Outcome,
    ProgressEvent,
    PruneStep,
    Scale,
    StudentStep,
    WithoutDataStep,
    digest_file,
    digest_json,
    dump_json,
    load_json,
    to_jsonable,
)
from edgeport.errors import ContractError, UsageError
from edgeport.exporter.distill.loss_spec import REGULARISERS, TERMS, check_augment, check_term
from edgeport.exporter.distill.options import DistillResult
from edgeport.exporter.distill.student_sizing import StudentSize, scale_to_latency
from edgeport.exporter.options import ExportOptions
from edgeport.module_files import module_file
from edgeport.npz import save_npz
from edgeport.pipeline.benchmarking.artifact import BenchSettings
from edgeport.pipeline.compression.data_free import DATA_FREE_WORKER, training_payload
from edgeport.pipeline.compression.prune import prune_source
from edgeport.pipeline.compression.reports import DistillReport, PruneReport
from edgeport.pipeline.compression.step import StepContext, StepResult, require_batches, source_key
from edgeport.pipeline.compression.workbench import (
    TRAINING_LOGS,
    Workbench,
    command_workbench,
    measurement_key,
    publish,
    require_modules,
    require_suffix,
)
from edgeport.pipeline.datasets.raw_files import read_samples
from edgeport.pipeline.datasets.sources import location_named, location_state
from edgeport.pipeline.engine.fingerprints import source_files, tool_versions
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.output.training_logs import copy_training_log, require_log_places
from edgeport.pipeline.source_model.export import export_options
from edgeport.report.step_summary import distilled_text, sized_text

__all__ = ["DistillCommand", "Student", "distill_in_run", "distill_source"]

_FILE = "student.safetensors"
_WORKER = "edgeport.pipeline.compression.distill_worker:distill_in_child"
_MISSED = "the latency was not reached; this is the fastest student"


@dataclass(frozen=True, kw_only=True)
class Student:
    """Who is to learn: one of these, or a source scaled to a latency.

    Attributes:
        source: A model, as it begins: with its weights, or with random ones.
        prune: The teacher, pruned so.
        scale: The argument of `source` that is chosen.
        latency_ns: Median that a scaled student is to have.
        speedup: Instead: how many times as fast as the teacher.

    """

    source: ModelSource | None = None
    prune: PruneStep | None = None
    scale: Scale | None = None
    latency_ns: float | None = None
    speedup: float | None = None

    def __post_init__(self) -> None:
        goals = sum(goal is not None for goal in (self.latency_ns, self.speedup))
        if self.scale is not None and (self.source is None or goals != 1 or not self.scale.values):
            raise ContractError(
                asked=f"choose {self.scale.argument} for a latency",
                found="no student whose factory takes it" if self.source is None else f"{goals} goals",
                fix="give --student, values to choose from, and one of --latency and --speedup",
            )
        if self.source is not None and self.scale is None and goals:
            raise ContractError(
                asked="reach a latency with a given student",
                found="nothing about it that may be changed",
                fix="name an argument of its factory (--scale width=8,16,32), or leave the student out: the teacher is "
                "pruned then",
            )

    @property
    def measured(self) -> bool:
        """Whether measured latency decides its size."""
        return self.scale is not None or (self.prune is not None and self.prune.measured)


@dataclass(frozen=True, kw_only=True)
class _Sizing:
    """Students that are measured, untrained, against the model that teaches.

    Attributes:
        bench: That measures; its key is without what is learned, since a student is as fast whatever it learns.
        student: Whose factory takes the argument.
        scale: The argument, and the values to choose from.
        teacher: Gives an ONNX file of the teacher.
        export: Writes an ONNX file of a student; told the value for what errors say.
        on_trial: Told the value that is measured next, None of the teacher.

    """

    bench: Workbench
    student: ModelSource
    scale: Scale
    teacher: Callable[[], Path]
    export: Callable[[ModelSource, Path], object]
    on_trial: Callable[[float | None], None]

    def run(self, latency_ns: float | None, speedup: float | None) -> tuple[ModelSource, StudentSize, float]:
        """The largest student that is fast enough, how it was found, and the teacher's median in ns."""
        before_ns = self._measured(None, lambda: self.bench.median_ns(self.teacher()))
        size = scale_to_latency(
            self.scale.values,
            lambda value: before_ns / self._measured(value, lambda: self._speedup(value)),
            latency_ns or before_ns / (speedup or 1.0),
        )
        return self._sized(size.value), size, before_ns

    def _measured(self, value: float | None, measure: Callable[[], float]) -> float:
        def told() -> float:
            self.on_trial(value)
            return measure()

        return self.bench.measure("student-trial", {"value": value}, told)

    def _speedup(self, value: float) -> float:
        path = self.bench.scratch / "trial.onnx"
        self.export(self._sized(value), path)
        speedup = self.bench.compare(self.teacher(), path).comparison.speedup.estimate
        for file in path.parent.glob(f"{path.name}*"):  # and its weights, where they lie beside it
            file.unlink()
        return speedup

    def _sized(self, value: float) -> ModelSource:
        """A whole number is given to the factory as such."""
        whole = int(value) if float(value).is_integer() else value
        return replace(self.student, arguments={**self.student.arguments, self.scale.argument: whole})


def distill_source(  # noqa: PLR0913 (those of the API)
    teacher: ModelSource,
    student: Student,
    samples: Path | str,
    step: DistillStep,
    *,
    output: Path,
    target: str,
    device: str,
    settings: BenchSettings,
    store: Path | None,
    on_progress: OnProgress,
    limits: Limits,
    fresh: bool,
) -> DistillReport:
    """See `edgeport.api.distill`."""
    from edgeport.code_version import code_version

    _require_sources(teacher, student, output)
    _require_spelled(step)
    require_writable(output)
    require_log_places(output)
    location = location_named(samples)
    # What must be equal for a training to go on: the student too, but for what is measured, which differs each time.
    key = {
        "teacher": _source_key(teacher),
        "student": _source_key(student.source) if student.source is not None else None,
        "made": [to_jsonable(student.prune), to_jsonable(student.scale), student.latency_ns, student.speedup],
        "by": measurement_key(settings) if student.measured else [],
        "samples": [to_jsonable(location), location_state(location), _function_file(samples), target],
        "step": to_jsonable(step),
        "functions": [_function_file(text) for text in step.functions],
        "device": device,
        "versions": tool_versions(),
    }
    with command_workbench(
        digest_json([key, code_version()]),
        purpose=f"distil {teacher.location}",
        store=store,
        limits=limits,
        on_progress=on_progress,
        fresh=fresh,
        settings=settings,
    ) as bench:
        command = DistillCommand(bench=bench, teacher=teacher, student=student, samples=samples, target=target)
        chosen = command.student_as_it_begins()
        payload = {
            "teacher": to_jsonable(teacher),
            "student": to_jsonable(chosen.source),
            "step": to_jsonable(step),
            "samples": to_jsonable(location),
            "target": target,
            "device": device,
        }
        folder, response = bench.build("distill", _WORKER, lambda: payload, files={"output": _FILE}, trains=True)
        publish(folder / _FILE, output)
        log = copy_training_log(folder / TRAINING_LOGS / "training" / f"generation-{response['best']}", output)
        return command.judged(chosen, _report(teacher, chosen, step, output, response, log))


def _require_spelled(step: DistillStep) -> None:
    """Makes sure that terms are terms, before a student is measured or pruned."""
    for terms, known in ((step.L, TERMS), (step.R, REGULARISERS)):
        for text in terms:
            check_term(text, known, labels=True)
    check_augment(step.augment)


def _require_sources(teacher: ModelSource, student: Student, output: Path) -> None:
    asked = f"distil {teacher.location}"
    require_modules(asked, teacher, student.source)
    if (student.source is None) == (student.prune is None):
        raise UsageError(
            asked=asked,
            found="no student" if student.source is None else "two students: a given one, and the pruned teacher",
            fix="give one of --student, --student-weights (what edgeport prune wrote), --prune, --speedup, --latency",
        )
    require_suffix(output, ".safetensors")


def _source_key(source: ModelSource) -> dict[str, Any]:
    values: dict[str, Any] = to_jsonable(source)
    return values | {"weights": "", **source_files(source), "code": _function_file(source.location)}


def _function_file(spelled: object) -> str:
    """Digest of the module that a `pkg.mod:fn` stands in; empty for what is none."""
    text = str(spelled)
    file = module_file(text.partition(":")[0], Path.cwd()) if ":" in text else None
    return digest_file(file) if file is not None and file.is_file() else ""


@dataclass(frozen=True, kw_only=True)
class _ChosenStudent:
    """A student as it begins, and how it was found."""

    source: ModelSource
    before_ns: float | None = None
    goal_ns: float | None = None
    reached: bool = True
    trials: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DistillCommand:
    """The students of a command: who learns, and how fast it is in the end."""

    bench: Workbench
    teacher: ModelSource
    student: Student
    samples: Path | str
    target: str

    def student_as_it_begins(self) -> _ChosenStudent:
        """The given one, or one that is made of the teacher or scaled."""
        if self.student.prune is not None:
            return self._pruned(self.student.prune)
        if self.student.source is None:
            raise TypeError(self.student)
        if self.student.scale is None:
            return _ChosenStudent(source=self.student.source)
        return self._scaled(self.student.source, self.student.scale)

    def judged(self, chosen: _ChosenStudent, report: DistillReport) -> DistillReport:
        """With the trained student's latency beside the teacher's, from fresh pairs, where a latency was asked."""
        if not self.student.measured:
            return report
        trained = self._exported(replace(chosen.source, weights=report.file), self.bench.scratch / "student.onnx")
        comparison = self.bench.compare(self._teacher(), trained).comparison
        before_ns = chosen.before_ns or 0.0
        report = replace(
            report, speedup=comparison.speedup, latency_ns=(before_ns, before_ns / comparison.speedup.estimate)
        )
        if not chosen.reached:
            return replace(report, outcome=Outcome.FAIL, reason=_MISSED)
        if comparison.change not in (Change.FASTER, Change.IMPROVED):
            return replace(report, outcome=Outcome.FAIL, reason="the student is not surely faster than its teacher")
        return report

    def _pruned(self, step: PruneStep) -> _ChosenStudent:
        """The teacher, pruned; kept, since a search by measuring would find another one."""

        def prune(folder: Path) -> None:
            report = prune_source(
                self.teacher,
                self._samples_file(),
                step,
                output=folder / _FILE,
                target=self.target,
                settings=self.bench.settings,
                on_progress=self.bench.on_progress,
                limits=self.bench.limits,
            )
            (folder / "report.json").write_bytes(dump_json(report))

        folder = self.bench.store.get_or_build("prune", "student", prune)
        report = load_json(PruneReport, (folder / "report.json").read_bytes())
        return _ChosenStudent(
            source=replace(self.teacher, weights=folder / _FILE),
            before_ns=report.latency_ns[0] if report.latency_ns is not None else None,
            goal_ns=report.goal_ns,
            reached=report.outcome is Outcome.PASS,
            trials=tuple((one.left, one.latency_ns) for one in report.trials),
        )

    def _scaled(self, student: ModelSource, scale: Scale) -> _ChosenStudent:
        done = 0

        def tell(value: float | None) -> None:
            nonlocal done
            if value is None:
                return
            message = f"a student with {scale.argument} = {value:g}"
            self.bench.on_progress(ProgressEvent(stage="measure", message=message, done=done, total=len(scale.values)))
            done += 1

        sizing = _Sizing(
            bench=self.bench,
            student=student,
            scale=scale,
            teacher=self._teacher,
            export=self._exported,
            on_trial=tell,
        )
        source, size, before_ns = sizing.run(self.student.latency_ns, self.student.speedup)
        return _ChosenStudent(
            source=source, before_ns=before_ns, goal_ns=size.goal_ns, reached=size.reached, trials=size.trials
        )

    def _teacher(self) -> Path:
        path = self.bench.scratch / "teacher.onnx"
        return path if path.exists() else self._exported(self.teacher, path)

    def _exported(self, source: ModelSource, path: Path) -> Path:
        """An ONNX file of it, untrained or trained: for its latency it is the same."""
        example = self.bench.scratch / "example.npz"
        if not example.exists():
            given = read_samples(self._samples_file(), self.target, count=2)
            save_npz(example, {feed: np.asarray(array) for feed, array in given.feeds.items()})
        self.bench.export(source, example, path, options=to_jsonable(ExportOptions()))
        return path

    def _samples_file(self) -> Path:
        """The samples as a file, which pruning and timing want.

        Raises:
            UsageError: They are a function or a folder.

        """
        if not str(self.samples).endswith(".npz"):
            raise UsageError(
                asked="make a student for a latency, or prune one",
                found=f"samples that are no .npz ({self.samples})",
                fix="give a .npz, or make the student before: edgeport prune",
            )
        return Path(self.samples)


def _report(
    teacher: ModelSource,
    chosen: _ChosenStudent,
    step: DistillStep,
    output: Path,
    response: Mapping[str, Any],
    log: Path,
) -> DistillReport:
    results = tuple(load_json(DistillResult, json.dumps(one)) for one in response["results"])
    better = results[response["best"]].best_step > 0
    (weights, weights_left), (macs, macs_left) = response["weights"], response["macs"]
    return DistillReport(
        file=output,
        teacher=teacher.location,
        student=replace(chosen.source, weights=output),
        step=step,
        results=results,
        best=response["best"],
        weights=(weights, weights_left),
        macs=(macs, macs_left),
        size_bytes=output.stat().st_size,
        log=log,
        trials=chosen.trials,
        goal_ns=chosen.goal_ns,
        outcome=Outcome.PASS if better else Outcome.FAIL,
        reason="" if better else "no step made the student better on the held-out samples: it is as it was",
    )


def distill_in_run(context: StepContext, step: StudentStep) -> StepResult:
    """Trains a student by what the recipe's model answers: what the step begins with, a given one, or a sized one.

    Raises:
        DistillationError: An objective or a teacher that does not suit.
        SamplesError, SourceError, TrainingError: As the training.

    """
    recipe = context.run.recipe
    if isinstance(step.learning, DistillStep):
        require_batches(context.shared, f"distil {recipe.name} in batches of {step.learning.batch_size}")
    student, sizes = _student_of(context, step)
    function, told = _learning(context, step.learning)

    def payload() -> dict[str, Any]:
        kept = {"kept": str(context.samples.place())} if isinstance(step.learning, DistillStep) else {}
        return {
            **told,
            **kept,
            "teacher": to_jsonable(context.original),
            "student": to_jsonable(student),
            "device": step.device,
        }

    key = {"student": source_key(student), "judged": recipe.data.output}
    folder, response = context.workbench(step).build(
        "distill", function, payload, key=key, files={"output": _FILE}, trains=True
    )
    return StepResult(
        source=replace(student, weights=folder / _FILE),
        summary=(*sizes, *distilled_text(response)),
        training_logs=folder / TRAINING_LOGS,
    )


def _student_of(context: StepContext, step: StudentStep) -> tuple[ModelSource, tuple[str, ...]]:
    """Who learns, as it begins, and how it was found where the target decides its size."""
    student, scale = step.student or context.run.recipe.source, step.scale
    if step.student is None or scale is None:
        return student, ()
    run, clock = context.run, context.run.clock
    bench = context.workbench(replace(step, learning=DistillStep()))

    def tell(value: float | None) -> None:
        message = "the model as it is" if value is None else f"a student with {scale.argument} = {value:g}"
        clock.step(context.stage, f"measuring {message}")

    def export(source: ModelSource, path: Path) -> None:
        purpose = f"export {student.location} with {scale.argument} = {source.arguments[scale.argument]:g}"
        bench.export(source, context.shared.samples.example, path, options=export_options(run), purpose=purpose)

    sizing = _Sizing(
        bench=bench,
        student=student,
        scale=scale,
        teacher=lambda: context.shared.prepared.model.path,
        export=export,
        on_trial=tell,
    )
    source, size, before_ns = sizing.run(step.latency_ns, step.speedup)
    chosen = sized_text(scale, size, before_ns)
    return source, (chosen,) if size.reached else (chosen, _MISSED)


def _learning(context: StepContext, learning: DistillStep | WithoutDataStep) -> tuple[str, dict[str, Any]]:
    """What trains, and what it is told of how."""
    recipe = context.run.recipe
    if isinstance(learning, WithoutDataStep):
        (spec,) = recipe.fed
        return DATA_FREE_WORKER, training_payload(learning, spec)
    return _WORKER, {
        "step": to_jsonable(learning),
        "judged": recipe.data.output,
        "replaces": True,
        "options": export_options(context.run),
    }
