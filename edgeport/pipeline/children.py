"""What the pipeline does in child processes: whatever parses or runs a model that may crash or hang.

Every function takes and returns JSON values; `edgeport.isolation.run_isolated` calls them by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import (
    Array,
    Arrays,
    Calibration,
    ExecutionConfig,
    OnnxModel,
    OnProgress,
    Precision,
    QuantizationPlan,
    dump_json,
    load_json,
    silent,
)
from edgeport.contracts import to_jsonable as plain
from edgeport.errors import AlreadyQuantizedError, EdgeportError, PlanError, SamplesError, UnsupportedByBackend

if TYPE_CHECKING:
    from edgeport.exporter.verify import Judge

__all__ = ["adopt", "build", "calibrate", "probe", "verify"]


def probe(payload: dict[str, Any]) -> dict[str, Any]:
    """Asks a backend (`payload["backend"]`) for its `capabilities`."""
    from edgeport.backends.registry import backend as backend_named

    return {"capabilities": plain(backend_named(payload["backend"]).capabilities())}


def adopt(payload: dict[str, Any]) -> dict[str, Any]:
    """Brings a float ONNX file into canonical form and runs it on the evaluation set.

    Args:
        payload: `model` (path), `feeds` (`.npz`), `folder`, which gets `model.onnx` and `reference.npz`.

    Raises:
        AlreadyQuantizedError: It carries Q/DQ or integer operators.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.onnx_files import quantization_evidence, read_ir, write_ir

    path, folder = Path(payload["model"]), Path(payload["folder"])
    graph = read_ir(path)
    evidence = quantization_evidence(graph)
    if evidence:
        raise AlreadyQuantizedError(
            asked=f"quantize {path.name}",
            found=f"a model that is quantized already ({evidence[0]})",
            fix="give the float model, or time this one as it is with `edgeport bench`",
        )
    model = write_ir(graph, folder / "model.onnx")
    feeds = _feeds(model, payload["feeds"])
    count = len(next(iter(feeds.values())))
    fixed = model.inputs[0].shape[0] if model.inputs[0].shape else 1
    step = fixed if isinstance(fixed, int) else 1
    with open_reference(model.path) as run:
        parts = [
            run({name: array[start : start + step] for name, array in feeds.items()})
            for start in range(0, count - count % step, step)
        ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(folder / "reference.npz", **outputs)  # type: ignore[arg-type]  # names of outputs, not of parameters
    return {}


def calibrate(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Collects statistics of every activation over the calibration samples, on ONNX Runtime in float.

    Args:
        payload: `model` (OnnxModel), `samples` (a location), `target`, `observers` (names), `output` (file).
        on_progress: Told of every batch.

    Returns:
        `digest` and `sample_count` of the calibration, and `warnings` about the samples.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.collect import collect
    from edgeport.calibration.data import check_samples, rebatch
    from edgeport.calibration.observers import OBSERVERS
    from edgeport.pipeline.samples import location_from_json, open_samples

    model = _model(payload)
    samples = open_samples(location_from_json(payload["samples"]), payload["target"])
    lints = check_samples(samples, model.inputs)
    fixed = model.inputs[0].shape[0] if model.inputs[0].shape else None
    if isinstance(fixed, int):
        samples = rebatch(samples, fixed)
    observers = {name: OBSERVERS[name] for name in payload["observers"]}
    calibration = collect(model, samples, open_reference, observers=observers, on_progress=on_progress)
    calibration.save(Path(payload["output"]))
    return {
        "digest": calibration.digest,
        "sample_count": calibration.sample_count,
        "warnings": [lint.message for lint in lints],
    }


def verify(payload: dict[str, Any]) -> dict[str, Any]:
    """Compares the exported model on ONNX Runtime with PyTorch's recorded outputs.

    Args:
        payload: `model` (OnnxModel), `feeds` and `reference` (`.npz` with arrays by name), `target` (`.npy` or
            None), `metric` and `output` (names), `search_path`, `tolerance`, `batch_sizes`.

    Returns:
        The `verification`.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.exporter.verify import verify as compare

    model = _model(payload)
    with np.load(payload["reference"], allow_pickle=False) as file:
        reference = {name: file[name] for name in file.files}
    found = compare(
        reference,
        _feeds(model, payload["feeds"]),
        model.path,
        open_reference,
        tolerance=payload["tolerance"],
        batch_sizes=tuple(payload["batch_sizes"]),
        judge=_judge(payload),
    )
    return {"verification": plain(found)}


def _judge(payload: dict[str, Any]) -> Judge | None:
    """The recipe's metric, where there are labels for it."""
    from edgeport.accuracy import evaluate, metric_named
    from edgeport.exporter.verify import Judge

    if not payload.get("metric") or not payload.get("target"):
        return None
    search_path = Path(payload["search_path"]) if payload.get("search_path") else None
    metric = metric_named(payload["metric"], search_path=search_path)

    def measure(outputs: Arrays, labels: Array) -> float:
        return evaluate(metric, outputs, labels, output=payload.get("output", "")).value

    return Judge(name=metric.name, measure=measure, target=np.load(payload["target"], allow_pickle=False))


def _model(payload: dict[str, Any]) -> OnnxModel:
    return load_json(OnnxModel, json.dumps(payload["model"]))


def _feeds(model: OnnxModel, path: str) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as file:
        missing = [spec.name for spec in model.inputs if spec.name not in file.files]
        if missing:
            raise SamplesError(
                asked=f"feed input {missing[0]!r}",
                found=f"samples for {', '.join(file.files)}",
                fix="name the arrays of the samples as the model names its inputs",
            )
        return {spec.name: file[spec.name] for spec in model.inputs}


def build(payload: dict[str, Any]) -> dict[str, Any]:
    """Plans, compiles and asks for the placement of one candidate.

    Args:
        payload: `model` (OnnxModel), `backend`, `precision`, `execution`, `method` (range method), `calibration`
            (file or None), `folder` (an empty folder that gets `artifact/`, `plan.json` and `placement.json`).

    Returns:
        `artifact` and, where the runtime can say, `placement`; else `placement_reason`.

    """
    from edgeport.backends.registry import backend as backend_named

    model = _model(payload)
    folder = Path(payload["folder"])
    backend = backend_named(payload["backend"])
    plan = plan_for(model, backend, payload)
    (folder / "plan.json").write_bytes(dump_json(plan))
    execution = load_json(ExecutionConfig, json.dumps(payload["execution"]))
    (folder / "artifact").mkdir()
    artifact = backend.compile(model, plan, execution, folder / "artifact")
    try:
        placement = backend.placement(artifact)
    except EdgeportError as error:
        return {"artifact": plain(artifact), "placement": None, "placement_reason": error.found}
    return {"artifact": plain(artifact), "placement": plain(placement), "placement_reason": ""}


def plan_for(model: OnnxModel, backend: Any, payload: dict[str, Any]) -> QuantizationPlan:
    """The plan that gives `payload["precision"]` on this backend.

    Raises:
        UnsupportedByBackend: The backend has no such precision here.
        PlanError: A static integer plan was asked without a calibration.

    """
    from edgeport.calibration.plan import dynamic_plan, float_plan, make_plan
    from edgeport.calibration.ranges import method_named

    precision = Precision(payload["precision"])
    capabilities = backend.capabilities()
    support = capabilities.precisions.get(precision)
    if support is None or not support.available:
        raise UnsupportedByBackend(
            asked=f"compile {precision} for {payload['backend']}",
            found=support.reason if support is not None and support.reason else f"no {precision} in this backend",
            fix="leave this precision out for this target",
        )
    if precision.is_float:
        return float_plan(model, precision)
    if capabilities.rules is None:
        raise UnsupportedByBackend(
            asked=f"compile {precision} for {payload['backend']}",
            found="a backend without quantization rules",
            fix="ask it for float precisions only",
        )
    if precision is Precision.INT8_DYNAMIC:
        return dynamic_plan(model, capabilities.rules)
    if payload["calibration"] is None:
        raise PlanError(
            asked="plan static int8", found="no calibration", fix="calibrate first, or ask for int8-dynamic"
        )
    calibration = Calibration.load(Path(payload["calibration"]))
    return make_plan(model, calibration, capabilities.rules, method_named(payload["method"]))
