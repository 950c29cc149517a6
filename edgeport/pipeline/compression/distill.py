"""`edgeport distill`: a student learns from a teacher in a child; where latency decides its size, that is measured."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.atomic import atomic_write
from edgeport.contracts import (
    Change,
    DistillStep,
    Interval,
    Limits,
    ModelSource,
    OnProgress,
    Outcome,
    ProgressEvent,
    PruneStep,
    Scale,
    digest_file,
    digest_json,
    load_json,
    to_jsonable,
)
from edgeport.errors import ContractError, UsageError
from edgeport.exporter.distill.loss_spec import REGULARISERS, TERMS, check_augment, check_term
from edgeport.exporter.distill.options import DistillResult
from edgeport.isolation import run_isolated
from edgeport.module_files import module_file
from edgeport.npz import save_npz
from edgeport.pipeline.compression.prune import measured_by, prune_source
from edgeport.pipeline.datasets.raw_files import read_samples
from edgeport.pipeline.datasets.sources import location_named, location_state
from edgeport.pipeline.engine.fingerprints import source_files, tool_versions
from edgeport.pipeline.engine.workspace import held_folder
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.output.training_logs import copy_curves, course_places, require_course_places
from edgeport.pipeline.source_model.export import export_source
from edgeport.store import Store

if TYPE_CHECKING:
    from edgeport.pipeline.benchmarking.artifact import BenchSettings
    from edgeport.pipeline.benchmarking.compare import CompareResult

__all__ = ["DistillReport", "Student", "distill_source", "with_argument"]


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
class DistillReport:
    """What a student learned.

    Attributes:
        file: Its weights.
        teacher: Where it comes from.
        student: The model that its weights are loaded into.
        step: What was asked.
        results: Of each generation.
        best: The generation that was kept, counted from 0.
        weights, macs: Parameters, and multiplications for one sample, of teacher and student.
        size_bytes: Of the file.
        log: The course of the last training, a JSON object per line.
        latency_ns: Medians of teacher and student, where they were measured.
        goal_ns: What was asked of the second one.
        speedup: Of the student over the teacher, from fresh pairs; None where it was not measured.
        trials: Sizes that were measured on the way, each with its median in ns.
        outcome: PASS; FAIL where no step made the student better, or a latency was not reached.
        reason: In a sentence, where it is not PASS.

    """

    file: Path
    teacher: str
    student: ModelSource
    step: DistillStep
    results: tuple[DistillResult, ...]
    best: int
    weights: tuple[int, int]
    macs: tuple[float, float]
    size_bytes: int
    log: Path
    latency_ns: tuple[float, float] | None = None
    goal_ns: float | None = None
    speedup: Interval | None = None
    trials: tuple[tuple[float, float], ...] = ()
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    schema_version: int = 1


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
    _require_sources(teacher, student, output)
    _require_spelled(step)
    require_writable(output)
    require_course_places(output)
    location = location_named(samples)
    # What must be equal for a training to go on: the student too, but for what is measured, which differs each time.
    key = {
        "teacher": _source_key(teacher),
        "student": _source_key(student.source) if student.source is not None else None,
        "made": [to_jsonable(student.prune), to_jsonable(student.scale), student.latency_ns, student.speedup],
        "by": measured_by(settings) if student.measured else {},
        "samples": [to_jsonable(location), location_state(location), _function_file(samples), target],
        "step": to_jsonable(step),
        "functions": [_function_file(text) for text in step.functions],
        "device": device,
        "versions": tool_versions(),
    }
    from edgeport.code_version import code_version

    with held_folder(
        Store(store), digest_json([key, code_version()]), fresh=fresh, asked=f"distil {teacher.location}"
    ) as work:
        asked = _Asked(
            teacher=teacher,
            student=student,
            samples=samples,
            target=target,
            work=work,
            settings=settings,
            on_progress=on_progress,
            limits=limits,
        )
        made = _student_of(asked)
        found = run_isolated(
            "edgeport.pipeline.compression.distill_worker:distill_in_child",
            {
                "teacher": to_jsonable(teacher),
                "student": to_jsonable(made.source),
                "step": to_jsonable(step),
                "samples": to_jsonable(location),
                "target": target,
                "output": str(output.resolve()),
                "work": str(work),
                "device": device,
            },
            limits=limits.for_training(),
            on_progress=on_progress,
            asked=f"distil {teacher.location}",
        )
        return _judged(asked, made, _report(asked, made, step, output, found))


def _require_spelled(step: DistillStep) -> None:
    """Makes sure that terms are terms, before a student is measured or pruned."""
    for terms, known in ((step.L, TERMS), (step.R, REGULARISERS)):
        for text in terms:
            check_term(text, known, labels=True)
    check_augment(step.augment)


def _require_sources(teacher: ModelSource, student: Student, output: Path) -> None:
    asked = f"distil {teacher.location}"
    for one in (teacher, student.source):
        if one is not None and one.location.endswith((".onnx", ".pt2")):
            raise UsageError(
                asked=asked,
                found=f"{one.location}, whose graph is fixed",
                fix="give teacher and student as PyTorch models: pkg.mod:factory and weights",
            )
    if (student.source is None) == (student.prune is None):
        raise UsageError(
            asked=asked,
            found="no student" if student.source is None else "two students: a given one, and the pruned teacher",
            fix="give one of --student, --student-weights (what edgeport prune wrote), --prune, --speedup, --latency",
        )
    if output.suffix != ".safetensors":
        raise UsageError(asked=f"write {output.name}", found="another kind of file", fix="name it .safetensors")


def _source_key(source: ModelSource) -> dict[str, Any]:
    values: dict[str, Any] = to_jsonable(source)
    return values | {"weights": "", **source_files(source), "code": _function_file(source.location)}


def _function_file(spelled: object) -> str:
    """Digest of the module that a `pkg.mod:fn` stands in; empty for what is none."""
    text = str(spelled)
    file = module_file(text.partition(":")[0], Path.cwd()) if ":" in text else None
    return digest_file(file) if file is not None and file.is_file() else ""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is needed for a student to be made and measured."""

    teacher: ModelSource
    student: Student
    samples: Path | str
    target: str
    work: Path
    settings: BenchSettings
    on_progress: OnProgress
    limits: Limits

    def exported(self, source: ModelSource, name: str) -> Path:
        """An ONNX file of it, untrained or trained: for its latency it is the same."""
        example = self.work / "example.npz"
        if not example.exists():
            given = read_samples(self.given_file(), self.target, count=2)
            save_npz(example, {feed: np.asarray(array) for feed, array in given.feeds.items()})
        path = self.work / f"{name}.onnx"
        export_source(source, example, path, {}, on_progress=self.on_progress, limits=self.limits)
        return path

    def given_file(self) -> Path:
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

    def compare(self, old: Path, new: Path) -> CompareResult:
        """Of both on this machine, in pairs."""
        from edgeport.pipeline.benchmarking.compare import compare_artifacts

        return compare_artifacts(old, new, self.settings, on_progress=self.on_progress)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A student, and how it was found."""

    source: ModelSource
    before_ns: float | None = None
    goal_ns: float | None = None
    reached: bool = True
    trials: tuple[tuple[float, float], ...] = field(default_factory=tuple)


def _student_of(asked: _Asked) -> _Made:
    if asked.student.prune is not None:
        return _pruned(asked, asked.student.prune)
    if asked.student.source is None:
        raise TypeError(asked.student)
    if asked.student.scale is not None:
        return _scaled(asked, asked.student.source, asked.student.scale)
    return _Made(source=asked.student.source)


def _pruned(asked: _Asked, step: PruneStep) -> _Made:
    """The teacher's code with pruned weights, made once for a training that may be stopped."""
    file, told = asked.work / "pruned.safetensors", asked.work / "pruned.json"
    if not told.exists():
        report = prune_source(
            asked.teacher,
            asked.given_file(),
            step,
            output=file,
            target=asked.target,
            settings=asked.settings,
            on_progress=asked.on_progress,
            limits=asked.limits,
        )
        made = _Made(
            source=replace(asked.teacher, weights=file),
            before_ns=report.latency_ns[0] if report.latency_ns is not None else None,
            goal_ns=report.goal_ns,
            reached=report.outcome is Outcome.PASS,
            trials=tuple((one.left, one.latency_ns) for one in report.trials),
        )
        _write(told, made)
    return _read(told)


def _scaled(asked: _Asked, source: ModelSource, scale: Scale) -> _Made:
    from edgeport.exporter.distill.student_sizing import scale_to_latency
    from edgeport.pipeline.benchmarking.compare import median_of

    told = asked.work / "scaled.json"
    if told.exists():
        return _read(told)
    whole = asked.exported(asked.teacher, "teacher")
    before_ns = median_of(whole, asked.settings, asked.on_progress)
    goal_ns = asked.student.latency_ns or before_ns / (asked.student.speedup or 1.0)
    done = 0

    def measure(value: float) -> float:
        nonlocal done
        message = f"a student with {scale.argument} = {value:g}"
        asked.on_progress(ProgressEvent(stage="measure", message=message, done=done, total=len(scale.values)))
        done += 1
        path = asked.exported(with_argument(source, scale.argument, value), "trial")
        return before_ns / asked.compare(whole, path).comparison.speedup.estimate

    found = scale_to_latency(scale.values, measure, goal_ns)
    made = _Made(
        source=with_argument(source, scale.argument, found.value),
        before_ns=before_ns,
        goal_ns=goal_ns,
        reached=found.reached,
        trials=found.trials,
    )
    _write(told, made)
    return made


def with_argument(source: ModelSource, name: str, value: float) -> ModelSource:
    """The source whose factory gets this value; a whole number as such."""
    whole = int(value) if float(value).is_integer() else value
    return replace(source, arguments={**source.arguments, name: whole})


def _write(path: Path, made: _Made) -> None:
    from edgeport.contracts import dump_json

    atomic_write(path, dump_json(made))


def _read(path: Path) -> _Made:
    return load_json(_Made, path.read_bytes())


def _report(asked: _Asked, made: _Made, step: DistillStep, output: Path, found: Mapping[str, Any]) -> DistillReport:
    import json

    results = tuple(load_json(DistillResult, json.dumps(one)) for one in found["results"])
    log, curves = course_places(output)
    training = asked.work / "training" / f"generation-{found['best']}"
    shutil.copyfile(training / "metrics.jsonl", log)
    copy_curves(training, curves)
    best = results[found["best"]]
    better = best.best_step > 0
    return DistillReport(
        file=output,
        teacher=asked.teacher.location,
        student=replace(made.source, weights=output),
        step=step,
        results=results,
        best=found["best"],
        weights=_both(found["weights"]),
        macs=_both(found["macs"]),
        size_bytes=output.stat().st_size,
        log=log,
        trials=made.trials,
        goal_ns=made.goal_ns,
        outcome=Outcome.PASS if better else Outcome.FAIL,
        reason="" if better else "no step made the student better on the held-out samples: it is as it was",
    )


def _both(values: Sequence[Any]) -> tuple[Any, Any]:
    return values[0], values[1]


def _judged(asked: _Asked, made: _Made, report: DistillReport) -> DistillReport:
    """With the latency of the trained student beside the teacher's, from fresh pairs, where a latency was asked."""
    if not asked.student.measured:
        return report
    student = replace(made.source, weights=report.file)
    teacher, trained = asked.exported(asked.teacher, "teacher"), asked.exported(student, "student")
    compared = asked.compare(teacher, trained)
    speedup = compared.comparison.speedup
    before = made.before_ns or 0.0
    report = replace(report, speedup=speedup, latency_ns=(before, before / speedup.estimate))
    if not made.reached:
        return replace(report, outcome=Outcome.FAIL, reason="the latency was not reached; this is the fastest student")
    if compared.comparison.change not in (Change.FASTER, Change.IMPROVED):
        return replace(report, outcome=Outcome.FAIL, reason="the student is not surely faster than its teacher")
    return report
