"""The sample sets of a recipe: what their child is told and found, and what the model must be for them."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeport.contracts import OnnxModel, TensorSpec, to_jsonable
from edgeport.contracts.recipe import (
    Recipe,
    SamplesFunction,
    SamplesMade,
)
from edgeport.errors import RecipeError, SamplesError
from edgeport.isolation import run_isolated
from edgeport.npz import load_npz
from edgeport.pipeline.datasets.prepare_worker import check_set
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import location_state
from edgeport.pipeline.datasets.state_binding import fed_by_others, require_links, states_of_model
from edgeport.pipeline.engine.context import RunContext
from edgeport.ragged import RaggedBatch

__all__ = [
    "PreparedSamples",
    "arrangement_of",
    "inputs_of_onnx",
    "prepare_samples",
    "require_fit",
    "require_output",
]


@dataclass(frozen=True, kw_only=True)
class PreparedSamples:
    """What the steps after this one read.

    Attributes:
        feeds: `.npz`, one array [N, ...] per input, as devices feed them.
        unfolded: The same as the model takes them before preprocessing is folded into it; `feeds` where none is.
        target: `.npy` with the labels [N, ...], or None.
        example: `.npz` with the samples that the export traces: two, or the fixed batch that the recipe asks for; as
            in `unfolded`.
        single: `.npz` with what one timed call takes: one sample, or as many as the model's fixed batch. With a state:
            the first steps of the first sequence, of which the last one is timed, and what the state begins with.
        timed_row: Index of that sample in the evaluation set.
        starts: Indices of the samples at which a sequence begins, where there is a state.
        is_ragged: Samples differ in shape.
        count: Number of evaluation samples.
        fingerprint: Of the evaluation set.
        calibration_fingerprint: Of the calibration set; empty where there is none.
        calibration_count: Its number of samples.
        training_fingerprint, training_count: The same of the training set.
        warnings: What is odd about the sets.

    """

    feeds: Path
    unfolded: Path
    target: Path | None
    example: Path
    single: Path
    count: int
    fingerprint: str
    calibration_fingerprint: str
    calibration_count: int
    warnings: tuple[str, ...]
    timed_row: int = 0
    starts: tuple[int, ...] = ()
    is_ragged: bool = False
    training_fingerprint: str = ""
    training_count: int = 0

    @property
    def learned_from(self) -> tuple[str, int]:
        """Fingerprint and number of what is learned from: the training set, or else the calibration set."""
        if self.training_fingerprint:
            return self.training_fingerprint, self.training_count
        return self.calibration_fingerprint, self.calibration_count


def prepare_samples(context: RunContext) -> PreparedSamples:
    """Checks the recipe's sample sets and writes the files that later steps read.

    Only calling a function tells which samples it gives now. So functions are called in every run, and the samples'
    fingerprints are in the keys of all that follows; files are read once.

    Raises:
        SamplesError: Damaged, empty, of unequal lengths, with NaN or Inf, or not what [inputs] or the ONNX model says;
            or calibration or training overlap with evaluation.
        RecipeError: The ONNX model has no such output as the recipe judges; or the labels that the recipe names or its
            metric needs are not there.

    """
    data, preparation = context.recipe.data, Preparation.of(context.recipe)
    of_model = inputs_of_onnx(context.recipe)
    asked = {
        "target": data.target,
        **preparation.as_payload(),
        "inputs": [to_jsonable(spec) for spec in context.recipe.fed],
        "model_inputs": [to_jsonable(spec) for spec in of_model if spec.name not in context.recipe.state.values()],
        "example": _example_batch(context.recipe),
        "axes": {name: to_jsonable(span) for name, span in context.recipe.axes.items()},
        "arrangement": arrangement_of(context.recipe, of_model),
        "states": [to_jsonable(spec) for spec in states_of_model(context.recipe, of_model)],
        "initial": dict(context.recipe.initial),
        "classes": list(data.labels),
        "metric": data.metric,
    }

    def build(folder: Path) -> None:
        payload = {
            **asked,
            "evaluation": to_jsonable(data.evaluation),
            "calibration": to_jsonable(data.calibration) if data.calibration else None,
            "training": to_jsonable(data.training) if data.training else None,
            "folder": str(folder),
        }
        run_isolated(
            "edgeport.pipeline.datasets.prepare_worker:write_samples",
            payload,
            limits=context.limits,
            asked="read the evaluation samples",
        )

    if isinstance(data.calibration, SamplesMade):  # they were made before (`making.py`), and lie in a file
        raise TypeError(data.calibration)
    locations = (data.evaluation, data.calibration, *([data.training] if data.training is not None else []))
    if preparation.runs_functions or any(isinstance(one, SamplesFunction) for one in locations):
        folder = context.scratch / "samples"
        folder.mkdir(parents=True)
        build(folder)
    else:
        files = [location_state(one) for one in locations]
        folder = context.store.get_or_build("samples", {**asked, "files": files}, build)
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    declared = _declared_batch(context.recipe)
    if declared is not None and facts["count"] < declared:
        raise SamplesError(
            asked=f"evaluate {context.recipe.name} in batches of {declared}, as [inputs] declares",
            found=f"{facts['count']} evaluation samples",
            fix=f'give {declared} samples or more, or leave the batch free (shape = ["batch", ...])',
        )
    target = folder / "target.npy"
    _require_labels(context.recipe, given=target.exists())
    return PreparedSamples(
        feeds=folder / "feeds.npz",
        unfolded=folder / ("unfolded.npz" if preparation.folded else "feeds.npz"),
        target=target if target.exists() else None,
        example=folder / "example.npz",
        single=folder / "single.npz",
        count=facts["count"],
        fingerprint=facts["fingerprint"],
        calibration_fingerprint=facts["calibration_fingerprint"],
        calibration_count=facts["calibration_count"],
        warnings=tuple(facts["warnings"]),
        timed_row=facts["timed_row"],
        starts=tuple(facts["starts"]),
        is_ragged=facts["is_ragged"],
        training_fingerprint=facts["training_fingerprint"],
        training_count=facts["training_count"],
    )


def _require_labels(recipe: Recipe, *, given: bool) -> None:
    """A metric that needs labels is worth nothing without, and that is known before the export."""
    from edgeport.accuracy.metrics import METRICS, Truth

    metric = METRICS.get(recipe.data.metric)
    if metric is not None and metric.truth is Truth.LABELS and not given:
        function = isinstance(recipe.data.evaluation, SamplesFunction)
        raise RecipeError(
            asked=f"judge by {metric.name} ([data] metric)",
            found=f"evaluation samples without labels in {recipe.data.evaluation.location}",
            fix=("yield (inputs, labels)" if function else "name them in [data] target")
            + ', or take metric = "agreement", which needs none',
        )


def _declared_batch(recipe: Recipe) -> int | None:
    return next((spec.shape[0] for spec in recipe.fed if spec.shape and isinstance(spec.shape[0], int)), None)


def _example_batch(recipe: Recipe) -> int:
    """Samples in the export's example.

    As declared; one for a fixed batch that nobody declared, as devices want it; else two, since tracers take a batch of
    one for a constant.
    """
    return _declared_batch(recipe) or (2 if recipe.export.dynamic_batch else 1)


def require_output(model: OnnxModel, recipe: Recipe) -> None:
    """Makes sure that the output which the recipe judges is there, before anything long is done.

    Raises:
        RecipeError: It is not.

    """
    wanted, known = recipe.data.output, [spec.name for spec in model.outputs]
    if wanted and wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
        raise RecipeError(
            asked=f"judge output {wanted!r} ([data] output)",
            found=f"a model with outputs {', '.join(map(repr, known))}",
            fix=f"did you mean {near[0]!r}?" if near else "name one of them, or leave it out for the first",
        )


def require_fit(model: OnnxModel, samples: PreparedSamples) -> None:
    """Compares the evaluation set with an exported model's inputs; its values were looked at when it was written.

    Raises:
        SamplesError: A wrong name, shape or dtype.

    """
    from edgeport.calibration.data import ArraySamples

    rows = RaggedBatch.of(load_npz(samples.single), tuple(model.state.values()))
    feeds = rows.cut(0, 1) if rows.shapes else rows.values
    check_set("evaluation", ArraySamples(feeds), model.fed, "the model's inputs are")


def arrangement_of(recipe: Recipe, of_model: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """How samples are arranged in sequences and cut to their lengths: an `Arrangement` as JSON values."""
    return {
        "sequence": recipe.data.sequence,
        "lengths": dict(recipe.data.lengths),
        "inputs": [to_jsonable(spec) for spec in (recipe.inputs or of_model)] if recipe.data.lengths else [],
    }


def inputs_of_onnx(recipe: Recipe) -> tuple[TensorSpec, ...]:
    """Inputs of a model that is ONNX already, but those with a value; of another one they are known after the export.

    Raises:
        RecipeError: The recipe names an output, an input or an axis that the model has not.

    """
    if not recipe.source.location.endswith(".onnx"):
        return ()
    from edgeport.onnx_files import open_onnx

    model = open_onnx(Path(recipe.source.location))
    require_output(model, recipe)
    inputs = fed_by_others(model, recipe)
    require_links(recipe, inputs, model.outputs)
    return inputs
