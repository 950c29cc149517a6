"""`edgeport distill --without-data` and `edgeport imitate`: trainings in a child, which go on after a stop."""

from __future__ import annotations

import json
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
from edgeport.pipeline.compression.reports import ImitateReport, WithoutDataReport
from edgeport.pipeline.compression.step import source_key
from edgeport.pipeline.compression.workbench import (
    TRAINING_LOGS,
    command_workbench,
    publish,
    require_modules,
    require_suffix,
)
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.output.training_logs import copy_training_log, require_log_places

__all__ = ["DATA_FREE_WORKER", "DataFreeRequest", "distill_without_data", "imitate", "training_payload"]

DATA_FREE_WORKER = "edgeport.exporter.distill.data_free.worker:distill_in_child"
_IMITATE_WORKER = "edgeport.exporter.distill.data_free.worker:imitate_in_child"

_LOOKS = 10
"""How often what learns without data is judged on the way, where there is something to judge it by."""

_UNKNOWN = "How good the student is was not measured: there were no samples to judge by."


@dataclass(frozen=True, kw_only=True)
class DataFreeRequest:
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
    request: DataFreeRequest,
    *,
    output: Path,
    made: Path | None,
    store: Path | None,
    on_progress: OnProgress,
    limits: Limits,
    fresh: bool,
) -> WithoutDataReport:
    """See `edgeport.api.distill_without_data`."""
    purpose = f"distil {request.teacher.location}"
    require_modules(purpose, request.teacher, request.student)
    require_suffix(output, ".safetensors")
    if made is not None:
        require_suffix(made, ".npz", "write what was made to")
    if request.judged is not None:
        _require_judge(request.judged, request.target)
    for file in (output, made):
        if file is not None:
            require_writable(file)
    require_log_places(output)
    looks = _LOOKS if request.judged is not None else 1
    values = {**training_payload(request.step, request.inputs, looks), "device": request.device}
    key = {
        **values,
        "sources": [source_key(one) for one in (request.teacher, request.student)],
        "judged": [digest_file(request.judged), request.target] if request.judged is not None else None,
    }
    payload = {
        **values,
        "teacher": to_jsonable(request.teacher),
        "student": to_jsonable(request.student),
        "judged": str(request.judged) if request.judged is not None else "",
        "target": request.target,
    }
    with command_workbench(
        _digest(key),
        purpose=f"{purpose} without data",
        store=store,
        limits=limits,
        on_progress=on_progress,
        fresh=fresh,
    ) as bench:
        files = {"output": output.name} | ({"kept": f"made-{made.name}"} if made is not None else {})
        folder, response = bench.build("distill", DATA_FREE_WORKER, lambda: payload, files=files, trains=True)
        publish(folder / files["output"], output)
        if made is not None:
            publish(folder / files["kept"], made)
        log = copy_training_log(folder / TRAINING_LOGS, output)
    return _report(request, output, made, response, log)


def _require_judge(judged: Path, target: str) -> None:
    asked = f"judge the student on {judged.name}"
    if not judged.is_file() or judged.suffix != ".npz":
        found = "no file" if not judged.is_file() else "another kind of file"
        raise UsageError(asked=asked, found=found, fix="give a .npz with the input by its name, and labels")
    if not target:
        raise UsageError(
            asked=asked, found="no name of its labels", fix="give --target, the key of the labels in the .npz"
        )


def training_payload(step: WithoutDataStep, inputs: TensorSpec, looks: int = 1) -> dict[str, Any]:
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
    require_suffix(output, ".npz")
    require_writable(output)
    spec = _only_floats(samples, inputs, value_range)
    values = {"inputs": to_jsonable(spec), "options": dict(options), "device": device}
    with command_workbench(
        _digest({**values, "samples": digest_file(samples)}),
        purpose=f"imitate the samples in {samples.name}",
        store=store,
        limits=limits,
        on_progress=on_progress,
        fresh=fresh,
    ) as bench:
        payload = {**values, "samples": str(samples), "count": count}
        folder, response = bench.build(
            "imitate", _IMITATE_WORKER, lambda: payload, files={"output": "drawn.npz"}, trains=True
        )
        publish(folder / "drawn.npz", output)
    return ImitateReport(file=output, count=count, learned_from=int(response["samples"]))


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


def _report(
    request: DataFreeRequest, output: Path, made: Path | None, response: Mapping[str, Any], log: Path
) -> WithoutDataReport:
    result = load_json(DistillResult, json.dumps(response["result"]))
    better = request.judged is None or result.best_step > 0
    unknown = () if request.judged is not None else (_UNKNOWN,)
    teacher, student = response["weights"]
    return WithoutDataReport(
        file=output,
        teacher=request.teacher.location,
        student=replace(request.student, weights=output),
        method=request.step.method,
        result=result,
        weights=(int(teacher), int(student)),
        size_bytes=output.stat().st_size,
        made=made,
        log=log,
        notes=(*response["notes"], *unknown),
        outcome=Outcome.PASS if better else Outcome.FAIL,
        reason="" if better else "no step made the student better on the samples that judge it: it is as it was",
    )


def _digest(key: Mapping[str, Any]) -> str:
    """Of the training that this key stands for."""
    from edgeport.code_version import code_version

    return digest_json([dict(key), tool_versions(), code_version()])
