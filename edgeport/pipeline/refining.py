"""Recovery methods that fit a model to one target's plan, applied in the child that compiles the candidate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.contracts import OnnxModel, QuantizationPlan, QuantizationRules, to_jsonable

if TYPE_CHECKING:
    from edgeport.contracts.recipe import Recipe
    from edgeport.pipeline.samples import PreparedSamples

__all__ = ["learning_payload", "refined", "refining_key", "refining_payload", "samples_payload"]


def refining_payload(recipe: Recipe, samples: PreparedSamples) -> dict[str, Any] | None:
    """What `refined` is told for a recipe's candidates; None where the recipe asks for no such method."""
    from edgeport.calibration.recovery import after_plan, describe, recoveries_named

    methods = after_plan(recoveries_named(recipe.search.recovery))
    if not methods or recipe.data.calibration is None:
        return None
    return {"methods": [describe(method) for method in methods], **samples_payload(recipe, samples)}


def learning_payload(recipe: Recipe, samples: PreparedSamples) -> dict[str, Any]:
    """As `samples_payload`, of what is learned from."""
    from edgeport.contracts import to_jsonable

    own = {"samples": to_jsonable(recipe.data.learned_from), "fingerprint": samples.learned_from[0]}
    return {**samples_payload(recipe, samples), **own}


def samples_payload(recipe: Recipe, samples: PreparedSamples) -> dict[str, Any]:
    """What `calibration_samples` is told of a recipe's calibration samples."""
    from edgeport.pipeline.preparation import Preparation
    from edgeport.pipeline.samples import arrangement_of, inputs_of_onnx

    return {
        "samples": to_jsonable(recipe.data.calibration),
        "fingerprint": samples.calibration_fingerprint,
        "target": recipe.data.target,
        "arrangement": arrangement_of(recipe, inputs_of_onnx(recipe)),
        **Preparation.of(recipe).as_payload(),
    }


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
    from edgeport.pipeline.child_samples import calibration_samples

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
