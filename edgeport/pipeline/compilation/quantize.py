"""One float model compiled for one runtime, for `edgeport quantize`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from edgeport.contracts import (
    Artifact,
    Calibration,
    ExecutionConfig,
    Limits,
    Mix,
    OnProgress,
    Placement,
    Precision,
    load_json,
    to_jsonable,
)
from edgeport.errors import UsageError, require_known
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation.candidates import execution_for
from edgeport.pipeline.compilation.placement import require_placement
from edgeport.pipeline.datasets.raw_files import preparation_for
from edgeport.pipeline.datasets.sources import location_named
from edgeport.pipeline.output.artifact_folder import artifact_draft, load_artifact, write_artifact_record
from edgeport.pipeline.quantization.range_search import MEASURED, measures
from edgeport.pipeline.quantization.recovery import named_after_plan

__all__ = ["quantize_onnx"]

_LOG = logging.getLogger(__name__)


def quantize_onnx(  # noqa: PLR0913 (those of the API)
    model: Path,
    calibration: Path | None,
    *,
    backend: str,
    precision: str,
    method: str | None,
    recover: Sequence[str],
    samples: Path | str | None,
    target: str,
    preprocess: Path | None,
    output: Path,
    execution: ExecutionConfig,
    mix: Mix,
    least_placement: float | None,
    profile: str | None,
    form: str,
    on_progress: OnProgress,
    limits: Limits,
) -> Artifact:
    """See `edgeport.api.quantize`."""
    from edgeport.devices.profiles import profile_named

    processor = profile_named(profile).processor if profile is not None else None
    require_known("compile in precision", precision, [str(one) for one in Precision])
    methods = named_after_plan(recover, precision, given=samples is not None)
    ranges = Precision(precision).needs_ranges or (not Precision(precision).is_float and mix.needs_ranges)
    calibrating = calibration is None and samples is not None and ranges
    if not calibrating:
        method = _range_method(method, given=samples is not None)
    # A child that calibrates opens the model itself, so that ONNX is loaded once.
    opened = None if calibrating and preprocess is None else open_onnx(model)
    if opened is not None:
        execution = execution_for(opened, execution)
    if calibration is not None:
        Calibration.load(calibration)  # before minutes are spent
    with artifact_draft(output) as folder:
        about_samples = None
        if samples is not None:
            about_samples = {
                "samples": to_jsonable(location_named(samples)),
                "target": target,
                **preparation_for(preprocess, opened.inputs if opened is not None else ()).as_payload(),
            }
        payload = {
            "model": to_jsonable(opened) if opened is not None else None,
            "backend": backend,
            "precision": precision,
            "execution": to_jsonable(execution),
            "calibration": str(calibration.resolve()) if calibration is not None else None,
            "method": method or MEASURED,
            "measuring": about_samples,
            "recovery": {"methods": methods, **about_samples} if methods and about_samples is not None else None,
            "mix": to_jsonable(mix),
            "form": form,
            "folder": str(folder),
            "float_only": True,
            "processor": to_jsonable(processor),
        }
        function = "edgeport.pipeline.compilation.worker:build"
        asked = f"compile {model.name} in {precision} for {backend}"
        if calibrating:
            payload |= {"calibrating": about_samples, "path": str(model)}
            function = "edgeport.pipeline.compilation.worker:calibrate_and_build"
        found = run_isolated(function, payload, limits=limits, on_progress=on_progress, asked=asked)
        for warning in found.get("warnings", ()):
            _LOG.warning("%s", warning)
        if least_placement is not None:
            placement = load_json(Placement, json.dumps(found["placement"])) if found["placement"] else None
            require_placement(placement, least_placement, asked)
        if found["placement"]:
            (folder / "placement.json").write_text(json.dumps(found["placement"]), encoding="utf-8")
        write_artifact_record(folder, found["artifact"], found.get("model", payload["model"]))
    return load_artifact(output)


def _range_method(method: str | None, *, given: bool) -> str:
    """The range method; None is the best one that can be had.

    Raises:
        CalibrationError: No such method.
        UsageError: One that is measured, and no samples to measure with.

    """
    if method is None:
        return MEASURED if given else "minmax"
    if measures(method) and not given:
        raise UsageError(
            asked=f"take ranges by {method}",
            found="no samples (--samples)",
            fix="give calibration samples, or another method",
        )
    return method
