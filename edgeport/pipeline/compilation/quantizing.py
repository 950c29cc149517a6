"""A float model and samples to an artifact in one child process, with no file of statistics between."""

from __future__ import annotations

import gc
import json
import tempfile
from pathlib import Path
from typing import Any

from edgeport.contracts import ExecutionConfig, OnnxModel, OnProgress, load_json, silent
from edgeport.contracts import to_jsonable as plain
from edgeport.pipeline.compilation.worker import build
from edgeport.pipeline.quantization.calibration_worker import collected
from edgeport.pipeline.quantization.planning import plan_for_processor, require_offered

__all__ = ["calibrate_and_build"]


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
    from edgeport.pipeline.datasets.fixed_batch import execution_for

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
