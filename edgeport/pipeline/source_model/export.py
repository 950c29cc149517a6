"""The model as verified ONNX, the outputs that candidates are compared with, and the calibration."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeport.contracts import (
    Array,
    Limits,
    ModelSource,
    OnnxModel,
    OnProgress,
    digest_file,
    load_json,
    to_jsonable,
)
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.prepare import PreparedSamples, require_fit, require_output
from edgeport.pipeline.datasets.raw_files import ALL_SAMPLES, read_samples
from edgeport.pipeline.datasets.state_binding import linked
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import source_files, tool_versions
from edgeport.pipeline.engine.input_tracking import run_recorded, states_of
from edgeport.pipeline.evaluation.evaluate import Reference, require_judgeable
from edgeport.pipeline.output.artifact_folder import require_writable
from edgeport.pipeline.source_model.folding import fold_preprocessing_of
from edgeport.pipeline.source_model.prepared_model import PreparedModel
from edgeport.pipeline.source_model.verification import verify_prepared

__all__ = ["export_options", "export_source"]


def export_pytorch(context: RunContext, samples: PreparedSamples) -> PreparedModel:
    context.clock.step("export")
    recipe = context.recipe
    key = {
        "source": to_jsonable(recipe.source) | {"weights": "", **source_files(recipe.source)},
        "options": export_options(context),
        "initial": dict(recipe.initial),
        "samples": samples.fingerprint,
        "example": digest_file(samples.example),
        "versions": tool_versions(),
    }

    def build(folder: Path) -> dict[str, str]:
        payload = {
            "source": to_jsonable(recipe.source),
            "example": str(samples.example),
            "output": str(folder / "model.onnx"),
            "options": export_options(context),
            "feeds": str(samples.unfolded),
            "reference": str(folder / "reference.npz"),
            "strict": not recipe.fed,
            "starts": list(samples.starts),
            "sizes": str(folder / "sizes"),
        }
        inside = context.clock.inside("export")
        function, asked = "edgeport.exporter.worker:export_in_child", f"export {recipe.source.location}"
        found, rests_on = run_recorded(context, function, payload, asked=asked, on_progress=inside)
        (folder / "notes.json").write_text(json.dumps(found["notes"]), encoding="utf-8")
        (folder / "sizes.json").write_text(json.dumps(found["sizes"]), encoding="utf-8")
        return rests_on

    folder = context.store.get_or_build_watched("export", key, build, states_of)
    model = linked(fold_preprocessing_of(context, open_onnx(folder / "model.onnx")), recipe)
    require_output(model, recipe)
    require_fit(model, samples)
    reference = Reference(outputs=folder / "reference.npz", name="PyTorch float32")
    notes = tuple(json.loads((folder / "notes.json").read_text(encoding="utf-8")))
    verification = verify_prepared(context, model, samples, reference, folder)
    require_judgeable(context, samples, reference)
    also = [f"{axis} {' and '.join(map(str, sizes))}" for axis, sizes in verification.sizes.items() if sizes]
    notes += (f"The export was verified with {', '.join(also)} too.",) if also else ()
    return PreparedModel(model=model, reference=reference, verification=verification, notes=notes)


def export_options(context: RunContext) -> object:
    """An `ExportOptions` as JSON values."""
    from edgeport.exporter.options import ExportOptions

    # Axis 0 of what samples feed is the batch; the other named axes of the declared inputs are left free too.
    recipe = context.recipe
    batch = {spec.shape[0] for spec in recipe.fed if spec.shape}
    axes: dict[str, dict[int, str]] = {}
    for spec in recipe.inputs:
        fed = spec.name not in recipe.state.values()
        free = {index: "batch" if label in batch else label for index, label in spec.dynamic_axes.items()}
        axes[spec.name] = {index: label for index, label in free.items() if index > 0 or not fed}
    return to_jsonable(
        ExportOptions(
            **asdict(recipe.export),
            dynamic_axes={name: free for name, free in axes.items() if free},
            axis_ranges={name: (span.minimum, span.maximum) for name, span in recipe.axes.items()},
            state=recipe.state,
            constants=recipe.constants,
        )
    )


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
    from edgeport.pipeline.datasets.batching import first_batch

    feeds = read_samples(path, target, count=2 if free else ALL_SAMPLES).feeds
    return first_batch(feeds, 2) if free else dict(feeds)


def _drawn(shapes: Mapping[str, tuple[int, ...]], least: int) -> dict[str, Array]:
    import numpy as np

    random = np.random.default_rng(0)
    return {
        name: random.standard_normal((max(least, *shape[:1]), *shape[1:]) if shape else (least,)).astype(np.float32)
        for name, shape in shapes.items()
    }
