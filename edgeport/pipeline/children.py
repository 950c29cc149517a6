"""What the pipeline does in child processes: whatever parses or runs a model that may crash or hang.

Every function takes and returns JSON values; `edgeport.isolation.run_isolated` calls them by name.
"""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport import hardware
from edgeport.contracts import (
    Array,
    Arrays,
    Artifact,
    Backend,
    Calibration,
    ExecutionConfig,
    NodeOrigin,
    OnnxModel,
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
)
from edgeport.contracts import to_jsonable as plain
from edgeport.errors import BackendError, EdgeportError, SamplesError, UnsupportedByBackend
from edgeport.npz import load_npz, save_npz
from edgeport.pipeline.locations import BATCH
from edgeport.pipeline.planning import measured_method, plan_for, plan_for_processor
from edgeport.ragged import SHAPE, RaggedBatch, run_rows

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeport.exporter.sizes import AtSize
    from edgeport.exporter.verify import Judge

__all__ = [
    "adopt",
    "build",
    "feeds_of",
    "fold",
    "placed_there",
    "prepare",
    "probe",
    "verify",
]

_LARGEST_TOLD = 1 << 30

AS_COMPILED = "onnx"
"""The form in which a backend compiles."""


def probe(payload: dict[str, Any]) -> dict[str, Any]:
    """Asks a backend (`payload["backend"]`) for its `capabilities`, for a `processor` where one is given."""
    from edgeport.backends.registry import backend as backend_named

    plan_for_processor(payload)
    return {"capabilities": plain(backend_named(payload["backend"]).capabilities())}


def adopt(payload: dict[str, Any]) -> dict[str, Any]:
    """Brings an ONNX file into canonical form and runs it on the evaluation set.

    Args:
        payload: `model` (path), `feeds` (`.npz`), `folder`, which gets `model.onnx` and `reference.npz`, and where
            wanted `constants` (values of inputs that are not fed), `state` (output to input) and `starts`.

    Returns:
        `quantized`: the nodes that show that it is quantized already; empty for a float model.

    Raises:
        UnsupportedByBackend: It has operators that ONNX Runtime has not.

    """
    from edgeport.backends.onnxruntime.reference import OWN_DOMAINS, open_reference
    from edgeport.onnx_files import (
        quantization_evidence,
        read_ir,
        refuse_custom_operators,
        write_constants,
        write_ir,
    )
    from edgeport.pipeline.batches import require_a_batch, require_samples, run_in_batches

    path, folder = Path(payload["model"]), Path(payload["folder"])
    graph = read_ir(path)
    refuse_custom_operators(graph, asked=f"run {path.name}", runtime="ONNX Runtime", known=OWN_DOMAINS)
    quantized = quantization_evidence(graph)
    if payload.get("constants"):
        write_constants(graph, payload["constants"])
        _fold(graph)
    model = replace(write_ir(graph, folder / "model.onnx"), state=payload.get("state", {}))
    rows = RaggedBatch.of(feeds_of(model, payload["feeds"]), tuple(model.state.values()))
    require_samples(rows.values)
    require_a_batch(model, len(rows), "judge outputs")
    with open_reference(model.path) as run:
        if model.state or rows.shapes:
            starts = payload.get("starts", ())
            outputs = run_rows(run, rows, batch=model.fixed_batch or 1, state=model.state, starts=starts)
        else:
            outputs = run_in_batches(run, rows.values, model.fixed_batch or 1)
    save_npz(folder / "reference.npz", outputs)
    return {"quantized": quantized}


def _fold(graph: ir.Model) -> None:
    """Computes ahead what a value that is known decides: branches that are never taken go."""
    from edgeport.exporter.fold import fold_constants, simplify

    fold_constants(graph)
    simplify(graph)


def prepare(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes raw samples as devices feed them.

    Args:
        payload: `samples` (`.npz`), `target` (its key, or ""), `count` (or None for all), `preparation`, and `folder`,
            which gets `prepared.npz` and, where preprocessing is folded, `unfolded.npz`.

    """
    from edgeport.calibration.data import NpzSamples
    from edgeport.pipeline.preparation import Preparation

    preparation, target, folder = Preparation.from_payload(payload), payload["target"], Path(payload["folder"])
    batch = min(BATCH, payload["count"] or BATCH)
    prepared: list[dict[str, Array]] = []
    unfolded: list[dict[str, Array]] = []
    count = 0
    for sample in preparation.prepared(NpzSamples(Path(payload["samples"]), target or None, batch)):
        prepared.append({**sample.feeds, **({target: sample.target} if sample.target is not None else {})})
        if preparation.folded:
            unfolded.append(preparation.unfolded(sample.feeds))
        count += len(sample)
        if payload["count"] is not None and count >= payload["count"]:
            break
    for name, parts in (("prepared", prepared), ("unfolded", unfolded)):
        if parts:
            whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            save_npz(folder / f"{name}.npz", whole)
    return {}


def fold(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes declared preprocessing into a float model's graph.

    Args:
        payload: `model` (path), `output` (path), `preparation`.

    Raises:
        ExportError: The model's inputs are not what was declared.

    """
    from edgeport.exporter.fold_preprocessing import fold_preprocessing
    from edgeport.onnx_files import read_ir, write_ir
    from edgeport.pipeline.preparation import Preparation

    graph = read_ir(Path(payload["model"]))
    fold_preprocessing(graph, Preparation.from_payload(payload).inputs)
    write_ir(graph, Path(payload["output"]))
    return {}


def verify(payload: dict[str, Any]) -> dict[str, Any]:
    """Compares the exported model on ONNX Runtime with PyTorch's recorded outputs.

    Args:
        payload: `model` (OnnxModel), `feeds` and `reference` (`.npz` with arrays by name), `target` (`.npy` or
            None), `metric` and `output` (names), `search_path`, `tolerance`, `batch_sizes`, and where wanted `starts`,
            `sizes` (a file) and `of_sizes` (the ONNX file that takes what the sizes feed, before any folding).

    Returns:
        The `verification`.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.exporter.verify import verify as compare

    model = _model(payload)
    found = compare(
        load_npz(payload["reference"]),
        feeds_of(model, payload["feeds"]),
        model.path,
        open_reference,
        tolerance=payload["tolerance"],
        batch_sizes=tuple(payload["batch_sizes"]),
        judge=_judge(payload),
        state=model.state,
        starts=payload.get("starts", (0,)),
        sizes=_sizes(payload.get("sizes")),
        of_sizes=Path(payload["of_sizes"]) if payload.get("of_sizes") else None,
    )
    return {"verification": plain(found)}


def _sizes(path: str | None) -> list[AtSize]:
    from edgeport.exporter.sizes import AtSize

    if path is None:
        return []
    folder = Path(path).parent / "sizes"
    return [
        AtSize(
            axis=one["axis"],
            size=one["size"],
            feeds=load_npz(folder / one["feeds"]),
            outputs=load_npz(folder / one["outputs"]),
        )
        for one in json.loads(Path(path).read_text(encoding="utf-8"))
    ]


def _judge(payload: dict[str, Any]) -> Judge | None:
    """The recipe's metric, where there are labels for it; one against the float model says nothing of an export."""
    from edgeport.accuracy import Truth, evaluate
    from edgeport.exporter.verify import Judge
    from edgeport.pipeline.judging import DECODED, decoder_from, metric_from, of_one_shape

    if not payload.get("metric") or not payload.get("target"):
        return None
    metric, decode = metric_from(payload), decoder_from(payload)
    if metric.truth is Truth.REFERENCE:
        return None

    def measure(outputs: Arrays, labels: Array) -> float:
        judged = outputs if decode is None else {DECODED: decode(outputs)}
        name = DECODED if decode is not None else payload.get("output") or next(iter(outputs))
        shaped = of_one_shape(metric, judged, name, Path(payload["target"]))
        return evaluate(shaped, judged, labels, output=name).value

    return Judge(name=metric.name, measure=measure, target=np.load(payload["target"], allow_pickle=False))


def _model(payload: dict[str, Any]) -> OnnxModel:
    return load_json(OnnxModel, json.dumps(payload["model"]))


def feeds_of(model: OnnxModel, path: str) -> dict[str, Array]:
    """Arrays of a `.npz` for the model's inputs, and the shapes of samples where they differ."""
    with np.load(path, allow_pickle=False) as file:
        missing = [spec.name for spec in model.inputs if spec.name not in file.files]
        if missing:
            raise SamplesError(
                asked=f"feed input {missing[0]!r}",
                found=f"samples for {', '.join(file.files)}",
                fix="name the arrays of the samples as the model names its inputs",
            )
        # An array of shapes may stand beside each: see `edgeport.ragged`.
        names = [name for spec in model.inputs for name in (spec.name, f"{spec.name}{SHAPE}") if name in file.files]
        return {name: file[name] for name in sorted(names, key=lambda name: name in model.state.values())}


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
    from edgeport.pipeline.refining import refined

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
