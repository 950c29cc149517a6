"""What the pipeline does in child processes: whatever parses or runs a model that may crash or hang.

Every function takes and returns JSON values; `edgeport.isolation.run_isolated` calls them by name.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport import hardware
from edgeport.contracts import (
    Accelerated,
    Artifact,
    Backend,
    Calibration,
    ExecutionConfig,
    NodeOrigin,
    OnnxModel,
    OnProgress,
    Packing,
    Placement,
    PlacementElsewhere,
    Precision,
    QuantizationPlan,
    SingleStream,
    compared,
    dump_json,
    kept_nodes,
    load_json,
    silent,
)
from edgeport.contracts import to_jsonable as plain
from edgeport.errors import BackendError, EdgeportError, UnsupportedByBackend
from edgeport.pipeline.quantization.calibration_worker import collected
from edgeport.pipeline.quantization.planning import measured_method, plan_for, plan_for_processor, require_offered

__all__ = ["build", "calibrate_and_build", "placed_there", "probe"]

_LARGEST_TOLD = 1 << 30

AS_COMPILED = "onnx"
"""The form in which a backend compiles."""


def probe(payload: dict[str, Any]) -> dict[str, Any]:
    """Asks a backend (`payload["backend"]`) for its `capabilities`, for a `processor` where one is given.

    And for the `accelerators` that it knows.
    """
    from edgeport.backends.registry import backend as backend_named

    plan_for_processor(payload)
    backend = backend_named(payload["backend"])
    accelerators = backend.accelerators() if isinstance(backend, Accelerated) else ()
    return {"capabilities": plain(backend.capabilities()), "accelerators": [plain(one) for one in accelerators]}


def _model(payload: dict[str, Any]) -> OnnxModel:
    return load_json(OnnxModel, json.dumps(payload["model"]))


def build(payload: dict[str, Any], calibration: Calibration | None = None) -> dict[str, Any]:
    """Plans, compiles and asks for the placement of one candidate.

    Args:
        payload: `model` (OnnxModel), `backend`, `precision`, `execution`, `method` (range method), `calibration`
            (file or None), `folder` (an empty folder that gets `artifact/`, `plan.json` and `placement.json`), and
            `float_only` where a model that is quantized already is refused in float precisions too; `recovery` where
            the model is fitted to its plan (`methods`, and samples as `calibrating_child.collected` takes them); `plan`
            (file) where there is one already; `measuring` (such samples) where the range method is to be measured;
            `form` where it ships in another one than the backend's own; `layout_optional` where a layout that the
            backend has not becomes a single stream; `processor` where it is for another one than this machine's.
        calibration: Statistics that are at hand; else those of the payload's file.

    Raises:
        AlreadyQuantizedError: It carries Q/DQ or integer operators, and `float_only` or an integer precision is asked.

    Returns:
        `artifact`, `recovered_by` and, where the runtime can say, `placement`; else `placement_reason`. `kept` says
        what became of the nodes that were planned as integers: the number `kept`, the names `lost`; None where no
        kernel tells. `strayed` names nodes that were to stay in a float precision by name, and ran in others.

    """
    from edgeport.backends.registry import backend as backend_named
    from edgeport.onnx_files import read_ir, refuse_quantized
    from edgeport.pipeline.quantization.recovery import refined

    plan_for_processor(payload)
    model = given = _model(payload)
    if payload.get("float_only"):
        refuse_quantized(read_ir(model), f"quantize {model.path.name}")
    folder = Path(payload["folder"])
    backend = backend_named(payload["backend"])
    planned = payload.get("plan")
    if calibration is None and not planned and payload.get("calibration"):
        calibration = Calibration.load(Path(payload["calibration"]))
    method, measured = measured_method(model, backend, payload, calibration)
    plan = (
        load_json(QuantizationPlan, Path(planned).read_bytes())
        if planned
        else plan_for(model, backend, {**payload, "method": method}, calibration, measured=measured)
    )
    execution = load_json(ExecutionConfig, json.dumps(payload["execution"]))
    if payload.get("layout_optional") and execution.layout.kind not in backend.capabilities().layouts:
        execution = replace(execution, layout=SingleStream())
    (folder / "artifact").mkdir()
    with tempfile.TemporaryDirectory(prefix="edgeport-fitted-") as scratch:
        if payload.get("recovery") and (rules := backend.capabilities().rules) is not None:
            model, plan = refined(model, plan, rules, payload["recovery"], Path(scratch))
        (folder / "plan.json").write_bytes(dump_json(plan))
        before, form = time.perf_counter_ns(), payload.get("form", AS_COMPILED)
        if form == AS_COMPILED:
            artifact, placement = backend.compile(model, plan, execution, folder / "artifact"), None
        else:
            compiled = backend.compile(model, plan, execution, Path(scratch) / "compiled")
            artifact, placement = _packed(backend, compiled, form, folder / "artifact")
    artifact = replace(artifact, compile_ns=time.perf_counter_ns() - before)
    built = {"artifact": plain(artifact), "recovered_by": list(plan.recovered_by)}
    if hardware.is_elsewhere():
        reason = f"it runs on {hardware.machine()}, and what a runtime makes of it there can't be read here"
        return {**built, "placement": None, "placement_reason": reason, "kept": None, "strayed": []}
    try:
        placement = placement or backend.placement(artifact)
    except EdgeportError as error:
        return {**built, "placement": None, "placement_reason": error.found, "kept": None, "strayed": []}
    return {**built, **_placed(placement, plan, given, artifact)}


def placed_there(payload: dict[str, Any]) -> dict[str, Any]:
    """Reads what a runtime on a device made of a candidate, beside its plan.

    Args:
        payload: `model` (OnnxModel), `artifact` (Artifact), `plan` (file), `told` (`.zip` of what the session module
            wrote there) and `processor`, of the device.

    Returns:
        As `build`: `placement`, `placement_reason`, `kept`, `strayed`.

    """
    from edgeport.backends.registry import backend as backend_named

    plan_for_processor(payload)
    artifact = load_json(Artifact, json.dumps(payload["artifact"]))
    backend = backend_named(artifact.backend)
    if not isinstance(backend, PlacementElsewhere):
        reason = f"{artifact.backend} can't say elsewhere what it makes of a model"
        return {"placement": None, "placement_reason": reason, "kept": None, "strayed": []}
    plan = load_json(QuantizationPlan, Path(payload["plan"]).read_bytes())
    with tempfile.TemporaryDirectory(prefix="edgeport-told-") as folder:
        _unpack(Path(payload["told"]), Path(folder))
        return _placed(backend.placement_told(artifact, Path(folder)), plan, _model(payload), artifact)


def _unpack(archive: Path, folder: Path) -> None:
    """What came from a device, no more of it than a graph can be.

    Raises:
        BackendError: It is no such archive, or larger.

    """
    try:
        with zipfile.ZipFile(archive) as told:
            if sum(one.file_size for one in told.infolist()) > _LARGEST_TOLD:
                raise ValueError("more than a graph is large")
            told.extractall(folder)  # which keeps names inside of the folder
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BackendError(
            asked="read what a runtime made of a model on a device",
            found=f"{type(error).__name__}: {error}",
            fix="run it again; if it happens again, report it",
        ) from error


def _placed(placement: Placement, plan: QuantizationPlan, model: OnnxModel, artifact: Artifact) -> dict[str, Any]:
    placement = _compared(placement, plan, model, artifact)
    kept = kept_nodes(plan, placement)
    return {
        "placement": plain(placement),
        "placement_reason": "",
        "kept": {"kept": len(kept.kept), "lost": list(kept.lost)} if kept.kept or kept.lost else None,
        "strayed": list(kept.strayed),
    }


def _packed(backend: Backend, artifact: Artifact, form: str, folder: Path) -> tuple[Artifact, Placement]:
    if not isinstance(backend, Packing):
        raise UnsupportedByBackend(
            asked=f"write an artifact of {artifact.backend} as {form}",
            found="that this backend has one form",
            fix="leave it as it is",
        )
    return backend.packed(artifact, form, folder)


def _compared(placement: Placement, plan: QuantizationPlan, model: OnnxModel, artifact: Artifact) -> Placement:
    """The placement beside what was planned; of a file that came quantized, beside the integers that are in it."""
    from edgeport.onnx_files import integer_nodes, node_module, read_ir

    graph = read_ir(model)
    if not plan.nodes:
        plan = replace(plan, nodes=dict.fromkeys(integer_nodes(graph), Precision.INT8))
    nodes = {
        node.name: NodeOrigin(operator=node.op_type, module=node_module(node)) for node in graph.graph if node.name
    }
    asked = artifact.settings.get("providers")
    return compared(placement, plan, nodes, device=str(asked[0]) if isinstance(asked, list) and asked else "")


def calibrate_and_build(payload: dict[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Calibrates for one backend and one range method, and builds what `children.build` builds of it.

    What can be refused without the samples is refused first. Only tensors are watched that the backend's plans read,
    and only by the observers that the method reads.

    Args:
        payload: Of `children.build`, without `calibration`; `calibrating`, samples as `calibrating_child.collected`
            takes them; and where `model` is None its `path`.
        on_progress: Told of every batch.

    Returns:
        As `children.build`, and the `model` and `warnings` about the samples.

    Raises:
        UnsupportedByBackend: The backend has no such precision.
        CalibrationError: No such method.
        AlreadyQuantizedError: The model is not float.
        SamplesError: Samples that do not fit the model.
        SourceError, ModelFormatError: No ONNX file there.
        UsageError: Another batch than the model's is asked for.

    """
    import edgeport.calibration.collect
    import edgeport.calibration.mixed_plan  # noqa: F401 (imported by what follows, and not to be walked over there)
    from edgeport.backends.registry import backend as backend_named
    from edgeport.calibration.ranges import method_named, observers_of
    from edgeport.onnx_files import read_ir, read_once, refuse_quantized
    from edgeport.pipeline.compilation.candidates import execution_for

    plan_for_processor(payload)
    observers = observers_of(method_named(payload["method"]))
    rules = require_offered(backend_named(payload["backend"]), payload).rules
    given = load_json(OnnxModel, json.dumps(payload["model"])) if payload["model"] is not None else None
    with (
        # Beside the draft: what a killed child leaves there goes with it, and so does what Windows keeps as long as a
        # graph maps it.
        tempfile.TemporaryDirectory(
            prefix="edgeport-weights-", dir=Path(payload["folder"]).parent, ignore_cleanup_errors=True
        ) as folder,
        read_once(given if given is not None else Path(payload["path"]), Path(folder)) as model,
    ):
        if given is None:
            execution = execution_for(model, load_json(ExecutionConfig, json.dumps(payload["execution"])))
            payload = {**payload, "model": plain(model), "execution": plain(execution)}
        gc.freeze()  # modules; what is made from here on may be a graph with its weights, and is looked for as garbage
        refuse_quantized(read_ir(model), f"quantize {Path(model.path).name}")
        # What is folded depends on which nodes are chosen, so then every activation is watched.
        chosen = bool((payload.get("mix") or {}).get("nodes"))
        calibration, warnings = collected(
            model,
            {
                **payload["calibrating"],
                "observers": observers,
                "rules": [plain(rules)] if rules is not None and not chosen else None,
            },
            on_progress,
        )
        built = build({**payload, "float_only": False}, calibration)  # refused above
    return {**built, "model": payload["model"], "warnings": warnings}
