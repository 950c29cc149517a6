"""Recovery methods before the calibration: the model that is calibrated and quantized is another file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeport.contracts import Limits, OnnxModel, load_json, to_jsonable
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.quantization.recovery import samples_payload

if TYPE_CHECKING:
    from edgeport.pipeline.datasets.prepare import PreparedSamples
    from edgeport.pipeline.engine.context import RunContext

__all__ = ["Transformed", "transform", "transform_in_child", "transformed_model"]

_MODEL, _SAID = "model.onnx", "said.json"


@dataclass(frozen=True, kw_only=True)
class Transformed:
    """The model that static int8 is made from.

    Attributes:
        model: The file; the float model's own where nothing was done.
        said: What was done, in order.

    """

    model: OnnxModel
    said: tuple[str, ...] = ()


def transform(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes `payload["output"]`, in a child.

    Args:
        payload: `model` (OnnxModel), `methods` (names), `output` (path), and what `calibration_samples` takes.

    Returns:
        `said`: what was done.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.recovery import recoveries_named
    from edgeport.calibration.recovery.transform import transform as transform_model
    from edgeport.pipeline.datasets.calibration_samples import calibration_samples

    model = load_json(OnnxModel, json.dumps(payload["model"]))
    samples, output = calibration_samples(payload, model), Path(payload["output"])
    with TemporaryDirectory(prefix="edgeport-transform-", dir=output.parent) as folder:
        methods = recoveries_named(payload["methods"])
        made, said = transform_model(model, methods, samples, open_reference, Path(folder))
        for file in made.path.parent.glob(f"{made.path.name}.*.data"):  # its name holds the digest of what it is
            shutil.move(file, output.parent / file.name)
        made.path.replace(output)
    return {"said": list(said)}


def transform_in_child(payload: Mapping[str, Any], limits: Limits, *, asked: str) -> Transformed:
    """Runs `transform` and opens what it wrote."""
    found = run_isolated(
        "edgeport.pipeline.quantization.transforming:transform", dict(payload), limits=limits, asked=asked
    )
    given = load_json(OnnxModel, json.dumps(payload["model"]))
    return _as(given, Path(payload["output"]), tuple(found["said"]))


def transformed_model(context: RunContext, model: OnnxModel, samples: PreparedSamples) -> Transformed:
    """The model that a recipe's static int8 is made from, in the store.

    Raises:
        CalibrationError: A method that the recipe asks for finds nothing to do in this model.

    """
    from edgeport.calibration.recovery import before_calibration, describe, recoveries_named
    from edgeport.pipeline.engine.context import tool_versions

    recipe = context.recipe
    wanted = any(target.needs_ranges for target in recipe.targets)
    methods = [describe(method) for method in before_calibration(recoveries_named(recipe.search.recovery))]
    if not methods or not wanted or recipe.data.calibration is None:
        return Transformed(model=model)
    context.clock.step("calibrate", "recovery")
    key = {
        "model": model.digest,
        "methods": methods,
        "samples": samples.calibration_fingerprint,
        "versions": tool_versions(),
    }

    def build(folder: Path) -> None:
        payload = {
            "model": to_jsonable(model),
            "methods": methods,
            **samples_payload(recipe, samples),
            "output": str(folder / _MODEL),
        }
        done = transform_in_child(payload, context.limits, asked=f"recover accuracy of {recipe.name}")
        (folder / _SAID).write_text(json.dumps(done.said), encoding="utf-8")

    folder = context.store.get_or_build("transform", key, build)
    return _as(model, folder / _MODEL, tuple(json.loads((folder / _SAID).read_text(encoding="utf-8"))))


def _as(given: OnnxModel, path: Path, said: tuple[str, ...]) -> Transformed:
    """The written file with what is known of the given model."""
    made = open_onnx(path)
    return Transformed(model=replace(given, path=made.path, digest=made.digest), said=said)
