"""One file through all steps, in a child that may crash: the runtime's own float first, then Edgeport's int8."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from benchmarks.harness import walk_each
from benchmarks.robustness.outcomes import LEAST_DB, Outcome, Row, compared, lossy, sudden
from edgeport.backends.registry import backend
from edgeport.contracts import (
    Artifact,
    Backend,
    ExecutionConfig,
    OnnxModel,
    OnProgress,
    ProgressEvent,
    load_json,
    to_jsonable,
)
from edgeport.errors import AlreadyQuantizedError, EdgeportError, PlanError
from edgeport.npz import load_npz, save_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation.worker import build
from edgeport.pipeline.quantization.calibration_worker import calibrate

_OBSERVERS = ["extremes"]
_LOW = re.compile(r"of element type (float[48]|u?int[24]$)")
FLOAT = "float"
"""What is told while the runtime has the given file: if the child dies then, that is no fault of Edgeport's."""


def walk_many(payload: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    """Walks `payload["cases"]` (dicts of `Case`) on `payload["runtime"]`."""
    walk_each(payload, FLOAT, lambda case: _walked(case, payload["runtime"], on_progress), on_progress)
    return {}


def _walked(case: Mapping[str, Any], runtime: str, on_progress: OnProgress) -> Row:
    about = {"name": case["name"], "runtime": runtime}
    feeds = _feeds(case)
    if feeds is not None:
        try:
            wanted = _FLOAT[runtime](case["model"], feeds)
            _require_computed(case["model"], feeds, wanted)
        except Exception as error:  # noqa: BLE001 (whatever the runtime raises is its refusal)
            return Row(**about, outcome=Outcome.RUNTIME, found=_short(error))
    on_progress(ProgressEvent(stage=case["name"], message="Edgeport"))
    steps = _Steps(runtime)
    try:
        with tempfile.TemporaryDirectory(prefix="edgeport-robust-") as folder:
            model = steps.opened(case)
            if feeds is None:
                return Row(**about, outcome=Outcome.FAULT, step="open", found="opened, though it can't be fed")
            artifact, quantized, nodes = steps.built(model, case, Path(folder))
            steps.now = "run"
            found = outputs_of(backend(runtime), load_json(Artifact, json.dumps(artifact)), feeds)
    except EdgeportError as error:
        outcome = Outcome.LOW if steps.now == "open" and _LOW.search(error.found) else Outcome.REFUSED
        return Row(**about, outcome=outcome, step=steps.now, code=error.code, found=_short(error.found))
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return Row(**about, outcome=Outcome.FAULT, step=steps.now, found=f"{type(error).__name__}: {_short(error)}")
    ratios, wrong = compared(found, wanted)
    least = min(ratios.values(), default=None)
    outcome = Outcome.INTEGERS if quantized else Outcome.FLOAT
    if case["part"] == "architectures":
        least = list(ratios.values())[-1]
        wrong += ["from one layer to the next"] if sudden(list(ratios.values())) else []
        outcome = Outcome.LOSSY if lossy(list(ratios.values())) else outcome
    elif least is not None and least < LEAST_DB:
        wrong.append("too much noise")
    said = f"{'; '.join(wrong)} ({', '.join(f'{ratio:.1f}' for ratio in ratios.values())} dB)" if wrong else ""
    outcome = Outcome.WRONG if wrong else outcome
    return Row(**about, outcome=outcome, found=said, sqnr_db=least, nodes=nodes)


def _require_computed(path: str, feeds: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
    """Raises where an array is empty, and an output has not the shape that the file declares.

    OpenVINO 2026.4 then reduces over axes that it reads from memory which nobody wrote: what comes out, or whether it
    raises, is of chance.
    """
    graph = onnx.load(path, load_external_data=False).graph
    if all(array.size for array in feeds.values()) and not any(0 in tensor.dims for tensor in graph.initializer):
        return
    for value in graph.output:
        declared = [axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim]
        found = outputs[value.name].shape
        if value.type.tensor_type.HasField("shape") and not _fits(found, declared):
            raise RuntimeError(f"an array is empty, and output {value.name} is {found} where the file says {declared}")


def _fits(shape: Sequence[int], declared: Sequence[int | None]) -> bool:
    return len(shape) == len(declared) and all(
        wanted in (None, size) for size, wanted in zip(shape, declared, strict=True)
    )


class _Steps:
    """What a run does with a file, one step after the other."""

    def __init__(self, runtime: str) -> None:
        self.now = ""
        self.runtime = runtime

    def opened(self, case: Mapping[str, Any]) -> OnnxModel:
        """As it was given."""
        self.now = "open"
        return open_onnx(Path(case["model"]))

    def built(self, model: OnnxModel, case: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], bool, int]:
        """The artifact, whether it is int8, and how many nodes are."""
        self.now = "calibrate"
        samples = _finite(case["feeds"], folder / "finite.npz")
        payload = {"model": to_jsonable(model), "samples": {"path": str(samples)}, "target": ""}
        kept = str(folder / "calibration.safetensors")
        execution = ExecutionConfig(threads=1, batch=max(1, model.fixed_batch or _rows(case["feeds"])))
        made = {"backend": self.runtime, "execution": to_jsonable(execution), "method": "minmax", "mix": None}

        def build_as(precision: str, calibration: str | None) -> dict[str, Any]:
            (folder / precision).mkdir()
            place = {"precision": precision, "calibration": calibration, "folder": str(folder / precision)}
            return build({**payload, **made, **place})

        try:
            calibrate({**payload, "observers": _OBSERVERS, "output": kept})
            self.now = "quantize"
            built = build_as("int8", kept)
            return built["artifact"], True, int((built["kept"] or {}).get("kept", 0))
        except (AlreadyQuantizedError, PlanError):  # a run then gives the runtime what it was given
            self.now = "compile"
            return build_as("fp32", None)["artifact"], False, 0


def outputs_of(runtime: Backend, artifact: Artifact, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of an artifact, by name."""
    session = runtime.open(artifact)
    try:
        call = session.bind(feeds)
        call.run()
        return {name: np.array(array) for name, array in call.outputs().items()}
    finally:
        session.close()


def _feeds(case: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Of the runtime's own float run; bfloat16, for which a `.npz` has no type, is kept in it as float32."""
    if case["feeds"] is None:
        return None
    inputs = {value.name: value for value in onnx.load(case["model"], load_external_data=False).graph.input}
    brain = {name for name, value in inputs.items() if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16}
    arrays = load_npz(case["feeds"])
    return {name: array.astype(ml_dtypes.bfloat16) if name in brain else array for name, array in arrays.items()}


def _finite(feeds: str, path: Path) -> Path:
    """The feeds to calibrate with: ranges are of finite samples, though a test may then run on others."""
    arrays = load_npz(feeds)
    if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in arrays.values()):
        return Path(feeds)
    save_npz(
        path, {name: np.nan_to_num(a, posinf=0, neginf=0) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    )
    return path


def _rows(feeds: str) -> int:
    return next((len(array) for array in load_npz(feeds).values() if array.ndim), 1)


def _onnxruntime(path: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    fed = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in feeds.items()}
    found = zip(names, map(np.asarray, session.run(names, fed)), strict=True)
    return {name: array.astype(np.str_) if array.dtype.kind == "O" else array for name, array in found}


def _openvino(path: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import openvino

    graph = onnx.load(path, load_external_data=False).graph
    names = [value.name for value in graph.output]
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    given = [value.name for value in graph.input]
    if len(given) == len(compiled.inputs):  # one that is given out as it is is called like the output
        fed = {port: feeds[name] for name, port in zip(given, compiled.inputs, strict=True)}
    else:  # it drops some inputs
        fed = {port: feeds[name] for port in compiled.inputs for name in port.get_names() if name in feeds}
    found = request.infer(fed)
    return {name: np.array(found[port]) for name, port in zip(names, compiled.outputs, strict=True)}


_FLOAT = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def run_plainly(runtime: str, path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name of the file as the runtime alone runs it; raises what the runtime raises."""
    return _FLOAT[runtime](str(path), feeds)


def _short(text: object) -> str:
    return " ".join(str(text).split())[:300]
