"""`edgeport distill --without-data` and `edgeport imitate`: trainings in a child, which go on after a stop."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import (
    Array,
    Limits,
    ModelSource,
    OnProgress,
    Outcome,
    TensorSpec,
    WithoutDataStep,
    digest_file,
    digest_json,
    load_json,
    to_jsonable,
)
from edgeport.errors import SamplesError, UsageError
from edgeport.exporter.distill.data_free.methods import method_named
from edgeport.exporter.distill.loss_spec import REGULARISERS, TERMS, check_term
from edgeport.exporter.distill.options import DistillResult, options_of
from edgeport.exporter.worker import loaded_arrays
from edgeport.isolation import run_isolated
from edgeport.pipeline.engine.fingerprints import source_files, tool_versions
from edgeport.pipeline.engine.workspace import held_folder
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.output.training_logs import METRICS, copy_curves, course_places, require_course_places
from edgeport.store import Store

__all__ = ["Asked", "ImitateReport", "WithoutDataReport", "distill_without_data", "imitate", "told_of"]

_LOOKS = 10
"""How often what learns without data is judged on the way, where there is something to judge it by."""

_UNKNOWN = "How good the student is was not measured: there were no samples to judge by."


@dataclass(frozen=True, kw_only=True)
class WithoutDataReport:
    """What a student learned without data.

    Attributes:
        file: Its weights.
        teacher: Where the teacher comes from.
        student: The model that the weights are loaded into.
        method: That made the inputs.
        result: Of the training; its numbers are empty where there were no samples to judge by.
        weights: Parameters of teacher and student.
        size_bytes: Of the file.
        made: Samples that were made, as `.npz`; None where they were not asked for.
        log: The course of the training, a JSON object per line.
        notes: What a reader must know, one sentence each.
        outcome: PASS; FAIL where there were samples to judge by, and no step made the student better on them.
        reason: In a sentence, where it is not PASS.

    """

    file: Path
    teacher: str
    student: ModelSource
    method: str
    result: DistillResult
    weights: tuple[int, int]
    size_bytes: int
    made: Path | None = None
    log: Path | None = None
    notes: tuple[str, ...] = ()
    outcome: Outcome = Outcome.PASS
    reason: str = ""
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class ImitateReport:
    """Samples that were drawn.

    Attributes:
        file: A `.npz` with one array, which says itself that they were made.
        count: How many.
        learned_from: How many samples of data.

    """

    file: Path
    count: int
    learned_from: int
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be learned.

    Attributes:
        teacher: A classifier with one float input.
        student: Who learns.
        inputs: What both take.
        step: How.
        judged: `.npz` of samples with labels, or None.
        target: Key of the labels.
        device: "cpu", "cuda" or "auto".

    """

    teacher: ModelSource
    student: ModelSource
    inputs: TensorSpec
    step: WithoutDataStep
    judged: Path | None
    target: str
    device: str


def distill_without_data(  # noqa: PLR0913 (where, and how)
    asked: Asked,
    *,
    output: Path,
    made: Path | None,
    store: Path | None,
    on_progress: OnProgress,
    limits: Limits,
    fresh: bool,
) -> WithoutDataReport:
    """See `edgeport.api.distill_without_data`."""
    for one in (asked.teacher, asked.student):
        if one.location.endswith((".onnx", ".pt2")):
            raise UsageError(
                asked=f"distil {asked.teacher.location}",
                found=f"{one.location}, whose graph is fixed",
                fix="give teacher and student as PyTorch models: pkg.mod:factory and weights",
            )
    if output.suffix != ".safetensors":
        raise UsageError(asked=f"write {output.name}", found="another kind of file", fix="name it .safetensors")
    if made is not None and made.suffix != ".npz":
        raise UsageError(asked=f"write what was made to {made.name}", found="another kind of file", fix="name it .npz")
    if asked.judged is not None:
        _require_judge(asked.judged, asked.target)
    for file in (output, made):
        if file is not None:
            require_writable(file)
    require_course_places(output)
    looks = _LOOKS if asked.judged is not None else 1
    values = {**told_of(asked.step, asked.inputs, looks), "device": asked.device}
    key = {
        **values,
        "sources": [{**to_jsonable(one), "weights": "", **source_files(one)} for one in (asked.teacher, asked.student)],
        "judged": [digest_file(asked.judged), asked.target] if asked.judged is not None else None,
    }
    doing = f"distil {asked.teacher.location} without data"
    log, curves = course_places(output)
    with _held(key, store, fresh=fresh, asked=doing) as work:
        found = run_isolated(
            "edgeport.exporter.distill.data_free.worker:distill_in_child",
            {
                **values,
                "teacher": to_jsonable(asked.teacher),
                "student": to_jsonable(asked.student),
                "output": str(output.resolve()),
                "kept": str(made.resolve()) if made is not None else "",
                "judged": str(asked.judged) if asked.judged is not None else "",
                "target": asked.target,
                "work": str(work),
            },
            limits=limits.for_training(),
            on_progress=on_progress,
            asked=doing,
        )
        shutil.copyfile(work / METRICS, log)
        copy_curves(work, curves)
    return replace(_report(asked, output, made, found), log=log)


def _require_judge(judged: Path, target: str) -> None:
    asked = f"judge the student on {judged.name}"
    if not judged.is_file() or judged.suffix != ".npz":
        found = "no file" if not judged.is_file() else "another kind of file"
        raise UsageError(asked=asked, found=found, fix="give a .npz with the input by its name, and labels")
    if not target:
        raise UsageError(
            asked=asked, found="no name of its labels", fix="give --target, the key of the labels in the .npz"
        )


def told_of(step: WithoutDataStep, inputs: TensorSpec, looks: int = 1) -> dict[str, Any]:
    """What `edgeport.exporter.distill.data_free.worker.distill_in_child` is told of a step.

    Args:
        step: How to learn.
        inputs: What is made.
        looks: How often the student is judged.

    Raises:
        UsageError: No such method.
        ContractError: A value that the method does not have or can't take.
        DistillationError: A term that is none, or that needs labels or samples.

    """
    for terms, known in ((step.L, TERMS), (step.R, REGULARISERS)):
        for text in terms:
            check_term(text, known, labels=False)
    options = options_of(step)
    options = replace(options, training=replace(options.training, epochs=min(looks, step.steps)))
    return {
        "inputs": to_jsonable(inputs),
        "method": step.method,
        "values": to_jsonable(method_named(step.method, step.values, step.steps)),
        "options": to_jsonable(options),
        "steps": step.steps,
        "objective": [list(step.L), list(step.R), step.lambda_],
        "mirror": step.mirror,
    }


def imitate(  # noqa: PLR0913 (what, where and how)
    samples: Path,
    inputs: str,
    *,
    output: Path,
    count: int,
    value_range: tuple[float, float] | None,
    options: Mapping[str, Any],
    device: str,
    store: Path | None,
    on_progress: OnProgress,
    limits: Limits,
    fresh: bool,
) -> ImitateReport:
    """See `edgeport.api.imitate`."""
    if output.suffix != ".npz":
        raise UsageError(asked=f"write {output.name}", found="another kind of file", fix="name it .npz")
    require_writable(output)
    spec = _only_floats(samples, inputs, value_range)
    values = {"inputs": to_jsonable(spec), "options": dict(options), "device": device}
    doing = f"imitate the samples in {samples.name}"
    with _held({**values, "samples": digest_file(samples)}, store, fresh=fresh, asked=doing) as work:
        found = run_isolated(
            "edgeport.exporter.distill.data_free.worker:imitate_in_child",
            {
                **values,
                "samples": str(samples),
                "count": count,
                "output": str(output.resolve()),
                "work": str(work),
            },
            limits=limits.for_training(),
            on_progress=on_progress,
            asked=doing,
        )
    return ImitateReport(file=output, count=count, learned_from=int(found["samples"]))


def _only_floats(samples: Path, name: str, value_range: tuple[float, float] | None) -> TensorSpec:
    """The array that is meant: the one of this name, or the only one of float32 with more than one axis."""
    arrays = loaded_arrays(str(samples))
    fitting = [key for key, one in arrays.items() if one.dtype == np.float32 and one.ndim > 1]
    chosen = [name] if name else fitting
    if len(chosen) != 1 or chosen[0] not in fitting:
        told = ", ".join(f"{key}: {one.dtype} {list(one.shape)}" for key, one in arrays.items())
        raise SamplesError(
            asked=f"imitate the samples in {samples.name}",
            found=f"{told}: {len(fitting)} arrays of float32 with a sample in each row",
            fix="store one, or name the one that is meant (--input)",
        )
    between = _range_of(arrays[chosen[0]], f"imitate {chosen[0]!r} of {samples.name}", value_range)
    shape = ("batch", *arrays[chosen[0]].shape[1:])
    return TensorSpec(name=chosen[0], dtype="float32", shape=shape, value_range=between)


def _range_of(array: Array, asked: str, declared: tuple[float, float] | None) -> tuple[float, float]:
    """Between which numbers the samples lie, or are said to: what is drawn goes no further."""
    if not array.size or not np.isfinite(array).all():
        found = "no samples" if not array.size else f"{int((~np.isfinite(array)).sum())} numbers that are not finite"
        raise SamplesError(asked=asked, found=found, fix="give samples of finite numbers")
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise SamplesError(asked=asked, found=f"{low:g} everywhere", fix="give samples that differ")
    if declared is not None and not declared[0] <= low <= high <= declared[1]:
        raise SamplesError(
            asked=f"{asked} between {declared[0]:g} and {declared[1]:g}",
            found=f"numbers from {low:g} to {high:g}",
            fix="give a --range that they lie in, or none: that of the samples is taken then",
        )
    return declared or (low, high)


def _report(asked: Asked, output: Path, made: Path | None, found: Mapping[str, Any]) -> WithoutDataReport:
    result = load_json(DistillResult, json.dumps(found["result"]))
    better = asked.judged is None or result.best_step > 0
    unknown = () if asked.judged is not None else (_UNKNOWN,)
    teacher, student = found["weights"]
    return WithoutDataReport(
        file=output,
        teacher=asked.teacher.location,
        student=replace(asked.student, weights=output),
        method=asked.step.method,
        result=result,
        weights=(int(teacher), int(student)),
        size_bytes=output.stat().st_size,
        made=made,
        notes=(*found["notes"], *unknown),
        outcome=Outcome.PASS if better else Outcome.FAIL,
        reason="" if better else "no step made the student better on the samples that judge it: it is as it was",
    )


def _held(
    key: Mapping[str, Any], store: Path | None, *, fresh: bool, asked: str
) -> contextlib.AbstractContextManager[Path]:
    """The folder of the training that this key stands for."""
    from edgeport.code_version import code_version

    digest = digest_json([dict(key), tool_versions(), code_version()])
    return held_folder(Store(store), digest, fresh=fresh, asked=asked)
