"""A file of an opset that quantized tensors per channel can't be written in, in a newer one; in a child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeport.contracts import AS_GIVEN, Candidate, OnnxModel, Precision
from edgeport.contracts.recipe import Recipe
from edgeport.errors import EdgeportError
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.state_binding import linked
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.step import Step
from edgeport.pipeline.evaluation.evaluate import Reference, require_judgeable
from edgeport.pipeline.source_model.folding import fold_preprocessing_of
from edgeport.pipeline.source_model.onnx_worker import LEAST_OPSET, AdoptRequest, RaiseRequest, adopt, raise_opset
from edgeport.pipeline.source_model.prepared_model import PreparedModel
from edgeport.pipeline.source_model.verification import verify_prepared

__all__ = ["as_given", "named_as_given", "wants_integers"]

_ADOPT, _RAISE = Step(name="adopt", worker=adopt), Step(name="opset", worker=raise_opset)


def wants_integers(recipe: Recipe) -> bool:
    """Some candidate is to be quantized."""
    return any(not one.is_float for target in recipe.targets for one in target.precisions)


def import_onnx(context: RunContext, samples: PreparedSamples, path: Path) -> PreparedModel:
    context.clock.step("export", "opening the ONNX file")
    given, recipe = open_onnx(path), context.recipe
    request = AdoptRequest(
        model=given,
        feeds=samples.unfolded,
        constants=recipe.constants,
        state=recipe.state,
        starts=samples.starts,
    )
    folder, adopted = _ADOPT.run(context, request, asked=f"run {path.name} on the evaluation samples")
    evidence, opened, raised = adopted.quantized, open_onnx(folder / "model.onnx"), ""
    if given.opset < LEAST_OPSET and wants_integers(recipe) and not evidence:
        opened, raised = _with_opset_raised(context, replace(opened, state=recipe.state), request, folder)
    name = "the given model on ONNX Runtime" if evidence else "ONNX Runtime float32"
    reference = Reference(outputs=folder / "reference.npz", name=name)
    require_judgeable(context, samples, reference)
    model = linked(fold_preprocessing_of(context, opened), recipe)
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


def _with_opset_raised(
    context: RunContext, model: OnnxModel, request: AdoptRequest, folder: Path
) -> tuple[OnnxModel, str]:
    """The adopted model in an opset that int8 can be written in, as far as that works; and how that went."""
    opset = request.model.opset
    wanted = RaiseRequest(model=model, feeds=request.feeds, reference=folder / "reference.npz", starts=request.starts)
    try:
        raised, response = _RAISE.run(context, wanted, asked=f"convert the model from opset {opset} to {LEAST_OPSET}")
    except EdgeportError as error:
        return model, (
            f"The file is of opset {opset}, in which int8 per channel can't be written, and converting it failed "
            f"({error.found}): quantized candidates are refused. Export it again with opset 20."
        )
    return open_onnx(raised / "model.onnx"), (
        f"The file is of opset {opset}; it was converted to {LEAST_OPSET}, which int8 needs, and gives the same on all "
        f"evaluation samples (largest difference {response.worst:.2g})."
    )


def _given_note(evidence: Sequence[str]) -> str:
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
