"""A distillation as a step of a run: the teacher is the model that the recipe names, and the student what is left of
it, a given one, or one whose size the target decides.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    DistillStep,
    ModelSource,
    OnnxModel,
    Scale,
    StudentStep,
    WithoutDataStep,
    digest_json,
    load_json,
    to_jsonable,
)
from edgeport.errors import DistillationError
from edgeport.exporter.distill.options import DistillResult
from edgeport.pipeline.benchmarking.compare import compare_artifacts, median_of
from edgeport.pipeline.compression.data_free import told_of
from edgeport.pipeline.compression.distill import with_argument
from edgeport.pipeline.compression.qat import require_batches
from edgeport.pipeline.compression.step import COURSES, Made, StepWork, changes_text
from edgeport.pipeline.engine.fingerprints import source_files
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of
from edgeport.pipeline.output.training_logs import copy_courses
from edgeport.pipeline.source_model.export import export_options

__all__ = ["distill_in_run", "require_alike"]

_FILE = "student.safetensors"


def distill_in_run(work: StepWork, step: StudentStep) -> Made:
    """Trains a student by what the recipe's model answers.

    Raises:
        DistillationError: An objective or a teacher that does not suit.
        SamplesError, SourceError, TrainingError: As the training.

    """
    if isinstance(step.learning, DistillStep):
        require_batches(work.shared, f"distil {work.context.recipe.name} in batches of {step.learning.batch_size}")
    student, said = _student_of(work, step)
    folder = _learned(work, step, student)
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    learned = replace(student, weights=folder / _FILE)
    return Made(source=learned, said=(*said, *_told(found)), courses=folder / COURSES)


def _student_of(work: StepWork, step: StudentStep) -> tuple[ModelSource, tuple[str, ...]]:
    """Who learns, as it begins, and how it was found."""
    if step.student is None:
        return work.context.recipe.source, ()
    if step.scale is None:
        return step.student, ()
    return _scaled(work, step, step.student, step.scale)


def _scaled(
    work: StepWork, step: StudentStep, student: ModelSource, scale: Scale
) -> tuple[ModelSource, tuple[str, ...]]:
    from edgeport.exporter.distill.student_sizing import scale_to_latency

    trials = _Trials(work=work, step=step, student=student, scale=scale)
    before_ns = trials.whole_ns()
    goal_ns = step.latency_ns or before_ns / (step.speedup or 1.0)
    found = scale_to_latency(scale.values, lambda value: before_ns / trials.speedup(value), goal_ns)
    missed = () if found.reached else ("the latency was not reached; this is the fastest student",)
    values = ", ".join(f"{value:g}" for value in sorted(set(scale.values)))
    chosen = (
        f"{scale.argument} = {found.value:g} of {values}: measured on the target {before_ns / 1e6:.4g} ms to "
        f"{found.latency_ns / 1e6:.4g} ms, {before_ns / found.latency_ns:.3g}x (asked were {goal_ns / 1e6:.4g} ms)"
    )
    return with_argument(student, scale.argument, found.value), (chosen, *missed)


@dataclass(frozen=True, kw_only=True)
class _Trials:
    """Students that are measured on the target, untrained; a number that is known is not measured again."""

    work: StepWork
    step: StudentStep
    student: ModelSource
    scale: Scale

    def whole_ns(self) -> float:
        """Median of the model that the recipe names."""
        return self._known(None)

    def speedup(self, value: float) -> float:
        """Of the student with this value over it."""
        return self._known(value)

    def _known(self, value: float | None) -> float:
        work, settings = self.work, self.work.bench
        key = {
            **work.key(replace(self.step, learning=DistillStep())),  # whatever it learns, it is as fast
            "backends": [],
            "value": value,
            "measured": [settings.backend, settings.threads, settings.rounds, settings.duration_s],
            "device": work.context.facts.digest,
        }
        return float(work.context.store.get_or_build_json("student-trial", key, lambda: self._measured(value)))

    def _measured(self, value: float | None) -> float:
        work, whole = self.work, self.work.shared.prepared.model.path
        inside = work.context.clock.inside(work.stage)
        if value is None:
            work.context.clock.step(work.stage, "measuring the model as it is")
            return median_of(whole, work.bench, inside)
        work.context.clock.step(work.stage, f"measuring a student with {self.scale.argument} = {value:g}")
        path = work.context.scratch / f"{work.stage}.onnx"
        run_recorded(
            work.context,
            "edgeport.exporter.worker:export_in_child",
            {
                "source": to_jsonable(with_argument(self.student, self.scale.argument, value)),
                "example": str(work.shared.samples.example),
                "output": str(path),
                "options": export_options(work.context),
            },
            asked=f"export {self.student.location} with {self.scale.argument} = {value:g}",
            on_progress=inside,
        )
        compared = compare_artifacts(whole, path, work.bench, on_progress=inside)
        for file in path.parent.glob(f"{path.name}*"):  # and its weights, where they lie beside it
            file.unlink()
        return compared.comparison.speedup.estimate


def _learned(work: StepWork, step: StudentStep, student: ModelSource) -> Path:
    """The folder that a training left in the store; a killed one goes on."""
    from edgeport.code_version import code_version

    context = work.context
    key = {
        **work.key(step),
        "backends": [],
        "student": to_jsonable(student) | {"weights": "", **source_files(student)},
        "judged": context.recipe.data.output,
    }
    training = context.store.root / "training" / digest_json([key, code_version()])

    def build(folder: Path) -> dict[str, str]:
        training.mkdir(parents=True, exist_ok=True)
        function, told = _child(work, step.learning)
        payload = {
            **told,
            "teacher": to_jsonable(work.original),
            "student": to_jsonable(student),
            "output": str(folder / _FILE),
            "work": str(training),
            "device": step.device,
        }
        limits = context.limits.for_training()
        found, rests_on = run_recorded(
            replace(context, limits=limits),
            function,
            payload,
            asked=f"{step.said} of {context.recipe.name}",
            on_progress=context.clock.inside(work.stage),
        )
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
        copy_courses(training, folder / COURSES)
        shutil.rmtree(training, ignore_errors=True)
        return rests_on

    return context.store.get_or_build_watched("distill", key, build, states_of)


def _child(work: StepWork, learning: DistillStep | WithoutDataStep) -> tuple[str, dict[str, Any]]:
    """What trains, and what it is told of how."""
    if isinstance(learning, WithoutDataStep):
        (spec,) = work.context.recipe.fed
        return "edgeport.exporter.distill.data_free.worker:distill_in_child", told_of(learning, spec)
    return "edgeport.pipeline.compression.distill_worker:distill_in_child", {
        "step": to_jsonable(learning),
        "judged": work.context.recipe.data.output,
        "replaces": True,
        "kept": str(work.samples.place()),
        "options": export_options(work.context),
    }


def _told(found: Mapping[str, Any]) -> tuple[str, ...]:
    """What was learned, a sentence each."""
    results = found["results"] if "results" in found else [found["result"]]
    best = found.get("best", 0)
    result = load_json(DistillResult, json.dumps(results[best]))
    teacher, student = found["weights"]
    sizes = [f"{teacher:,.0f} weights teach {student:,.0f}"]
    if "macs" in found:
        sizes.append(f"{found['macs'][0]:,.0f} multiplications to {found['macs'][1]:,.0f}")
    of = f"; the best of {len(results)} students is number {best + 1}" if len(results) > 1 else ""
    learned = f"learned from {result.objective} for {result.steps} steps"
    if not result.after:
        learned += "; nothing told on the way how good it is"
    elif result.best_step == 0:
        learned += ", none of which made it better on held-out samples"
    else:
        learned += f"; on held-out samples {changes_text(result.before, result.after)}"
    if result.teacher:
        learned += f"; the teacher has {', '.join(f'{name} {value:.4g}' for name, value in result.teacher.items())}"
    return ("; ".join(sizes), learned + of, *found.get("notes", ()))


def require_alike(teacher: OnnxModel, student: OnnxModel) -> None:
    """Makes sure that what a student gives can take the place of what its teacher gives.

    Raises:
        DistillationError: Outputs of other names, dtypes or sizes.

    """
    given, wanted = (
        [f"{one.name}: {one.dtype} {list(one.shape)}" for one in model.outputs] for model in (student, teacher)
    )
    alike = len(student.outputs) == len(teacher.outputs) and all(
        own.name == other.name and own.dtype == other.dtype and _same_sizes(own.shape, other.shape)
        for own, other in zip(student.outputs, teacher.outputs, strict=True)
    )
    if not alike:
        raise DistillationError(
            asked="put a student in the place of its teacher",
            found=f"outputs {', '.join(given)} in place of {', '.join(wanted)}",
            fix="let the student give outputs of the same names and sizes as the model that the recipe names",
        )


def _same_sizes(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    """As far as they are known."""
    return len(one) == len(other) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(one, other, strict=True)
    )
