"""Recovery methods that fit a model to one target's plan, applied in the child that compiles the candidate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeport.contracts import Limits, OnnxModel, Precision, QuantizationPlan, QuantizationRules, load_json, to_jsonable
from edgeport.contracts.recipe import Recipe
from edgeport.errors import UsageError
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx

if TYPE_CHECKING:  # a command that leaves all work to a child loads no numpy
    from edgeport.pipeline.datasets.prepare import PreparedSamples
    from edgeport.pipeline.engine.context import RunContext

_MODEL, _SAID = "model.onnx", "said.json"

__all__ = [
    "Transformed",
    "named_after_plan",
    "named_before_calibration",
    "refined",
    "refining_key",
    "refining_payload",
    "transform",
    "transform_in_child",
    "transformed_model",
]


def refining_payload(recipe: Recipe, samples: PreparedSamples) -> dict[str, Any] | None:
    """What `refined` is told for a recipe's candidates; None where the recipe asks for no such method."""
    from edgeport.calibration.recovery import after_plan, describe, recoveries_named
    from edgeport.pipeline.datasets.calibration_samples import samples_payload

    methods = after_plan(recoveries_named(recipe.search.recovery))
    if not methods or recipe.data.calibration is None:
        return None
    return {"methods": [describe(method) for method in methods], **samples_payload(recipe, samples)}


def refining_key(payload: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of it decides the result: the same samples may lie elsewhere."""
    if payload is None:
        return None
    return {name: payload[name] for name in ("methods", "fingerprint", "preparation")}


def refined(
    model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules, payload: dict[str, Any], folder: Path
) -> tuple[OnnxModel, QuantizationPlan]:
    """The model with constants that suit the plan, and the plan for it; see `edgeport.calibration.recovery`.

    Args:
        model: Float; the plan is for it.
        plan: Static int8.
        rules: The plan's dialect.
        payload: `methods` (names), and what `calibration_samples` takes.
        folder: Gets the new model.

    Raises:
        CalibrationError: A method finds nothing to do in this model.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.backends.qdq.write import write_plan
    from edgeport.calibration.recovery import recoveries_named
    from edgeport.calibration.recovery.context import RecoveryContext, batches_of
    from edgeport.calibration.recovery.refine import refine
    from edgeport.pipeline.datasets.calibration_samples import calibration_samples

    def write(one: OnnxModel, its_plan: QuantizationPlan, path: Path) -> OnnxModel:
        return write_plan(one, its_plan, rules, path)

    run = partial(open_reference, threads=payload.get("threads"))
    bench = RecoveryContext(
        reference=model,
        batches=batches_of(model, calibration_samples(payload, model), run),
        open_model=run,
        write=write,
    )
    return refine(model, plan, recoveries_named(payload["methods"]), bench, folder)


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
    found = run_isolated("edgeport.pipeline.quantization.recovery:transform", dict(payload), limits=limits, asked=asked)
    given = load_json(OnnxModel, json.dumps(payload["model"]))
    return _as(given, Path(payload["output"]), tuple(found["said"]))


def transformed_model(context: RunContext, model: OnnxModel, samples: PreparedSamples) -> Transformed:
    """The model that a recipe's static int8 is made from, in the store.

    Raises:
        CalibrationError: A method that the recipe asks for finds nothing to do in this model.

    """
    from edgeport.calibration.recovery import before_calibration, describe, recoveries_named
    from edgeport.pipeline.datasets.calibration_samples import samples_payload
    from edgeport.pipeline.engine.fingerprints import tool_versions

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


def named_before_calibration(recover: Sequence[str]) -> list[str]:
    """Names of the methods that make the model which is calibrated.

    Raises:
        CalibrationError: No such method.
        UsageError: One fits a model to a plan.

    """
    from edgeport.calibration.recovery import after_plan, describe, recoveries_named

    methods = recoveries_named(recover)
    if late := after_plan(methods):
        raise UsageError(
            asked=f"calibrate with {describe(late[0])}",
            found="a method that fits a model to the plan of one target",
            fix=f"calibrate without it, then edgeport quantize --recover {describe(late[0])} --samples ...",
        )
    return [describe(method) for method in methods]


def named_after_plan(recover: Sequence[str], precision: str, *, given: bool) -> list[str]:
    """Names of the methods that fit a model to its plan.

    Args:
        recover: As asked for.
        precision: That is compiled.
        given: There are samples.

    Raises:
        CalibrationError: No such method.
        UsageError: They are for static int8, need samples, or one is for the calibration.

    """
    from edgeport.calibration.recovery import before_calibration, describe, recoveries_named

    methods = recoveries_named(recover)
    if not methods:
        return []
    asked = f"recover accuracy by {', '.join(map(describe, methods))}"
    if early := before_calibration(methods):
        raise UsageError(
            asked=asked,
            found=f"{describe(early[0])}, which makes the model that is calibrated",
            fix=f"edgeport calibrate --recover {describe(early[0])}, then quantize the model that it writes",
        )
    if precision != Precision.INT8:
        raise UsageError(asked=asked, found=f"precision {precision}", fix="leave it out, or compile static int8")
    if not given:
        raise UsageError(
            asked=asked, found="no samples", fix="give samples (--samples), such as those of the calibration"
        )
    return [describe(method) for method in methods]
