"""A file of an opset that quantized tensors per channel can't be written in, in a newer one; in a child."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.contracts import AS_GIVEN, Candidate, Precision
from edgeport.contracts.recipe import Recipe
from edgeport.errors import EdgeportError
from edgeport.isolation import run_isolated
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.state_binding import linked
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.fingerprints import tool_versions
from edgeport.pipeline.evaluation.evaluate import Reference, require_judgeable
from edgeport.pipeline.source_model.folding import fold_preprocessing_of, folded_inputs
from edgeport.pipeline.source_model.onnx_worker import LEAST_OPSET
from edgeport.pipeline.source_model.prepared_model import PreparedModel
from edgeport.pipeline.source_model.verification import verify_prepared

__all__ = ["as_given", "named_as_given", "wants_integers"]


def wants_integers(recipe: Recipe) -> bool:
    """Some candidate is to be quantized."""
    return any(not one.is_float for target in recipe.targets for one in target.precisions)


def import_onnx(context: RunContext, samples: PreparedSamples, path: Path) -> PreparedModel:
    context.clock.step("export", "opening the ONNX file")
    given, recipe = open_onnx(path), context.recipe
    said = {"constants": dict(recipe.constants), "state": dict(recipe.state), "starts": list(samples.starts)}

    def build(folder: Path) -> None:
        payload = {"model": str(path), "feeds": str(samples.unfolded), "folder": str(folder), **said}
        asked = f"run {path.name} on the evaluation samples"
        found = run_isolated(
            "edgeport.pipeline.source_model.onnx_worker:adopt", payload, limits=context.limits, asked=asked
        )
        if raising and not found["quantized"]:
            found["raised"] = _raised(context, payload, given.opset)
        (folder / "adopted.json").write_text(json.dumps(found), encoding="utf-8")

    initial = dict(recipe.initial)
    raising = given.opset < LEAST_OPSET and wants_integers(recipe)
    # The fingerprint is of what devices feed; the same uint8 may become other floats.
    key = {
        "model": given.digest,
        "samples": samples.fingerprint,
        "folded": folded_inputs(context),
        "initial": initial,
        "raising": raising,
        **said,
        "versions": tool_versions(),
    }
    folder = context.store.get_or_build("adopt", key, build)
    adopted = json.loads((folder / "adopted.json").read_text(encoding="utf-8"))
    evidence, raised = adopted["quantized"], adopted.get("raised", "")
    name = "the given model on ONNX Runtime" if evidence else "ONNX Runtime float32"
    reference = Reference(outputs=folder / "reference.npz", name=name)
    require_judgeable(context, samples, reference)
    model = linked(fold_preprocessing_of(context, open_onnx(folder / "model.onnx")), recipe)
    folded = Preparation.of(recipe).folded
    written = [f"{name} = {value}" for name, value in recipe.constants.items()]
    return PreparedModel(
        model=model,
        reference=reference,
        verification=verify_prepared(context, model, samples, reference) if folded else None,
        notes=(
            _given_note(evidence),
            *([raised] if raised else []),
            *([f"Written into the graph: {', '.join(written)}."] if written else []),
        ),
        quantized=bool(evidence),
    )


def _raised(context: RunContext, payload: dict[str, Any], opset: int) -> str:
    """Brings the adopted model to an opset that int8 can be written in; a sentence on how that went."""
    function, asked = (
        "edgeport.pipeline.source_model.onnx_worker:raise_opset",
        f"convert the model from opset {opset} to {LEAST_OPSET}",
    )
    try:
        found = run_isolated(function, payload, limits=context.limits, asked=asked)
    except EdgeportError as error:
        return (
            f"The file is of opset {opset}, in which int8 per channel can't be written, and converting it failed "
            f"({error.found}): quantized candidates are refused. Export it again with opset 20."
        )
    return (
        f"The file is of opset {opset}; it was converted to {LEAST_OPSET}, which int8 needs, and gives the same on all "
        f"evaluation samples (largest difference {found['worst']:.2g})."
    )


def _given_note(evidence: list[str]) -> str:
    if not evidence:
        return "The model came as ONNX: candidates are compared with ONNX Runtime's own float outputs."
    others = f" and {len(evidence) - 1} more" if len(evidence) > 1 else ""
    return (
        f"The model is quantized already ({evidence[0]}{others}): it was not quantized again, but given to each "
        "runtime as it is, and compared with its own outputs on ONNX Runtime. Give the float "
        "model to have other precisions."
    )


def as_given(context: RunContext) -> RunContext:
    """The run with one candidate per target, for which nothing is planned: float32 leaves a file unchanged."""
    targets = tuple(replace(target, precisions=(Precision.FP32,)) for target in context.recipe.targets)
    return replace(context, recipe=replace(context.recipe, targets=targets))


def named_as_given(candidate: Candidate) -> Candidate:
    """The candidate under a name that does not say float32; its placement tells what it ran in."""
    return replace(candidate, name=candidate.name.replace(f" {Precision.FP32}", f" {AS_GIVEN}", 1), variant=AS_GIVEN)
