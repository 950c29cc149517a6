"""The work of single steps: what is checked before a child process is asked, and what is made of its answer.

`edgeport.api` says what each function takes, gives and raises.
"""

from __future__ import annotations

import difflib
import json
import logging
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import (
    Artifact,
    Calibration,
    ExecutionConfig,
    Limits,
    Mix,
    ModelSource,
    OnnxModel,
    OnProgress,
    Placement,
    Precision,
    Sample,
    Verification,
    load_json,
    to_jsonable,
)
from edgeport.errors import IsolationError, SamplesError, UsageError
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.artifacts import artifact_draft, load_artifact, require_writable, write_artifact_record
from edgeport.pipeline.calibrating import calibrate_in_children
from edgeport.pipeline.fixed_batch import execution_for
from edgeport.pipeline.locations import location_named
from edgeport.pipeline.named_recoveries import named_after_plan, named_before_calibration
from edgeport.pipeline.placement_gate import require_placement
from edgeport.pipeline.range_choice import MEASURED, measures
from edgeport.pipeline.raw_files import preparation_for, prepared_file
from edgeport.pipeline.transforming import Transformed, transform_in_child

if TYPE_CHECKING:
    from edgeport.contracts import Array

__all__ = ["calibrate_onnx", "export_source", "quantize_onnx", "read_samples", "verify_export"]

_LOG = logging.getLogger(__name__)
_WHOLE = 1 << 62
"""A batch size that no set reaches."""


def export_source(  # noqa: PLR0913 (those of the API)
    source: ModelSource,
    example: Path | Mapping[str, tuple[int, ...]],
    output: Path,
    options: Mapping[str, Any],
    *,
    target: str = "",
    on_progress: OnProgress,
    limits: Limits,
) -> tuple[OnnxModel, tuple[str, ...]]:
    """See `edgeport.api.export`; the example is a `.npz` or shapes by name. Returns the model and notes."""
    from edgeport.exporter.options import ExportOptions
    from edgeport.npz import save_npz

    require_writable(output)
    settings = ExportOptions(**options)
    # Tracers take a batch of one for a constant.
    least = 2 if settings.dynamic_batch else 1
    feeds = (
        _drawn(example, least)
        if isinstance(example, Mapping)
        else _traced(example, target, free=settings.dynamic_batch)
    )
    with tempfile.TemporaryDirectory(prefix="edgeport-export-") as scratch:
        path = Path(scratch) / "example.npz"
        save_npz(path, feeds)
        payload = {
            "source": to_jsonable(source),
            "example": str(path),
            "output": str(output.resolve()),
            "options": to_jsonable(settings),
        }
        found = run_isolated(
            "edgeport.exporter.worker:export_in_child",
            payload,
            limits=limits,
            on_progress=on_progress,
            asked=f"export {source.location}",
        )
    return load_json(OnnxModel, json.dumps(found["model"])), tuple(found["notes"])


def _traced(path: Path, target: str, *, free: bool) -> dict[str, Array]:
    """Two samples for a free batch; every one of the file for a fixed one."""
    from edgeport.pipeline.batches import first_batch

    feeds = read_samples(path, target, count=2 if free else _WHOLE).feeds
    return first_batch(feeds, 2) if free else dict(feeds)


def _drawn(shapes: Mapping[str, tuple[int, ...]], least: int) -> dict[str, Array]:
    import numpy as np

    random = np.random.default_rng(0)
    return {
        name: random.standard_normal((max(least, *shape[:1]), *shape[1:]) if shape else (least,)).astype(np.float32)
        for name, shape in shapes.items()
    }


def verify_export(  # noqa: PLR0913 (those of the API)
    source: ModelSource,
    model: Path,
    samples: Path,
    *,
    metric: str,
    target: str,
    tolerance: float,
    preprocess: Path | None,
    limits: Limits,
) -> Verification:
    """See `edgeport.api.verify`."""
    import numpy as np

    from edgeport.npz import save_npz
    from edgeport.pipeline.batches import require_a_batch

    _check_metric(metric, target)
    opened = open_onnx(model)
    preparation = preparation_for(preprocess, opened.inputs)
    with tempfile.TemporaryDirectory(prefix="edgeport-verify-") as scratch:
        folder = Path(scratch)
        samples = prepared_file(samples, preparation, folder, limits, target=target)
        sample = checked_samples(samples, opened, target)
        require_a_batch(opened, len(sample), f"verify {model.name}")
        save_npz(folder / "feeds.npz", sample.feeds)
        labels = folder / "target.npy" if sample.target is not None else None
        if labels is not None and sample.target is not None:
            np.save(labels, sample.target, allow_pickle=False)
        payload = {
            "feeds": str(folder / ("unfolded.npz" if preparation.folded else "feeds.npz")),
            "reference": str(folder / "reference.npz"),
            "source": to_jsonable(source),
            **({"batch": opened.fixed_batch} if opened.fixed_batch is not None else {}),
        }
        _run_pytorch(source, payload, limits)
        payload |= {
            "feeds": str(folder / "feeds.npz"),
            "model": to_jsonable(opened),
            "target": str(labels) if labels is not None else None,
            "metric": metric,
            "tolerance": tolerance,
            "batch_sizes": [opened.fixed_batch] if opened.fixed_batch is not None else sorted({1, min(2, len(sample))}),
            "search_path": str(source.search_path) if source.search_path else None,
        }
        found = run_isolated(
            "edgeport.pipeline.children:verify", payload, limits=limits, asked=f"run {model.name} on the samples"
        )
    return load_json(Verification, json.dumps(found["verification"]))


def _run_pytorch(source: ModelSource, payload: dict[str, object], limits: Limits) -> None:
    """PyTorch's own outputs; what the model raises is about the samples, since it could be loaded."""
    try:
        run_isolated(
            "edgeport.exporter.worker:reference_in_child",
            payload,
            limits=limits,
            asked=f"run {source.location} on the samples",
        )
    except IsolationError as error:
        if "raised" not in error.details:
            raise
        raise SamplesError(
            asked=f"run {source.location} in PyTorch on the samples",
            found=str(error.details["raised"]),
            fix="check that samples, weights and the exported file are of this very model",
            details=error.details,
        ) from error


def _check_metric(metric: str, target: str) -> None:
    from edgeport.accuracy import METRICS

    if metric and not target:
        raise UsageError(
            asked=f"compute {metric} of both models",
            found="no name of the labels' array",
            fix='give target (--target), as in --target label for numpy.savez("samples.npz", image=..., label=...)',
        )
    if metric and ":" not in metric:
        _known("judge by metric", metric, METRICS)


def checked_samples(path: Path, model: OnnxModel, target: str = "") -> Sample:
    """All samples of a `.npz`, as the model takes them.

    Raises:
        SamplesError: Damaged, or of other names, shapes or dtypes than the model's inputs.

    """
    from edgeport.calibration.data import ArraySamples, check_samples

    sample = read_samples(path, target)
    check_samples(ArraySamples(sample.feeds), model.inputs)
    return sample


def read_samples(path: Path, target: str = "", *, count: int = _WHOLE) -> Sample:
    """The first `count` samples of a `.npz` as one batch.

    Raises:
        SamplesError: Missing, damaged, of unequal lengths, with Python objects, or without the target.

    """
    from edgeport.calibration.data import NpzSamples

    return next(iter(NpzSamples(path, target or None, count)))


def calibrate_onnx(  # noqa: PLR0913 (those of the API)
    model: Path,
    samples: Path | str,
    *,
    output: Path,
    observers: tuple[str, ...],
    batch_size: int,
    target: str,
    preprocess: Path | None,
    workers: int,
    recover: Sequence[str],
    on_progress: OnProgress,
    limits: Limits,
) -> Calibration:
    """See `edgeport.api.calibrate`."""
    from edgeport.calibration.observers import OBSERVERS

    for name in observers or ("",):
        _known("watch tensors with observer", name, OBSERVERS)
    methods = named_before_calibration(recover)
    require_writable(output)
    opened = open_onnx(model)
    about_samples = {
        "samples": to_jsonable(location_named(samples)),
        **preparation_for(preprocess, opened.inputs).as_payload(),
        "target": target,
    }
    done = Transformed(model=opened)
    if methods:
        made = output.resolve().with_name(f"{output.stem}.recovered.onnx")
        payload = {"model": to_jsonable(opened), "methods": methods, **about_samples, "output": str(made)}
        done = transform_in_child(payload, limits, asked=f"recover accuracy of {model.name}")
    payload = {
        **about_samples,
        "model": to_jsonable(done.model),
        "transforms": list(done.said),
        "observers": list(observers),
        "batch_size": batch_size,
        "output": str(output.resolve()),
    }
    found = calibrate_in_children(
        payload, workers, limits=limits, on_progress=on_progress, asked=f"calibrate {model.name}"
    )
    for warning in found["warnings"]:
        _LOG.warning("%s", warning)
    return Calibration.load(output)


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
    _known("compile in precision", precision, [str(one) for one in Precision])
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
        function = "edgeport.pipeline.children:build"
        asked = f"compile {model.name} in {precision} for {backend}"
        if calibrating:
            payload |= {"calibrating": about_samples, "path": str(model)}
            function = "edgeport.pipeline.quantizing:calibrate_and_build"
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


def _known(asked: str, name: str, known: Collection[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        asked=f"{asked} {name!r}",
        found=f"that there are {', '.join(known)}",
        fix=f"did you mean {near[0]!r}?" if near else "use one of them",
    )
