"""The sample sets of a recipe, opened; the evaluation set also as the file that devices are fed from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Array, OnnxModel, Sample, SampleSet, TensorSpec, digest_file, load_json, to_jsonable
from edgeport.contracts.recipe import Recipe, SamplesFile, SamplesFunction, SamplesLocation
from edgeport.errors import RecipeError, SamplesError
from edgeport.isolation import run_isolated
from edgeport.npz import GrowingArray, save_npy, save_npz
from edgeport.pipeline.batches import first_batch
from edgeport.pipeline.context import RunContext

if TYPE_CHECKING:
    from edgeport.calibration.data.digests import Walk

__all__ = ["PreparedSamples", "open_samples", "prepare_samples", "require_fit", "require_output", "write_samples"]

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class PreparedSamples:
    """What the steps after this one read.

    Attributes:
        feeds: `.npz`, one array [N, ...] per input.
        target: `.npy` with the labels [N, ...], or None.
        example: `.npz` with the samples that the export traces: two, or the fixed batch that the recipe asks for.
        single: `.npz` with what one timed call takes: the first sample, or as many as the model's fixed batch.
        count: Number of evaluation samples.
        fingerprint: Of the evaluation set.
        calibration_fingerprint: Of the calibration set; empty where there is none.
        calibration_count: Its number of samples.
        warnings: What is odd about the sets.

    """

    feeds: Path
    target: Path | None
    example: Path
    single: Path
    count: int
    fingerprint: str
    calibration_fingerprint: str
    calibration_count: int
    warnings: tuple[str, ...]


def open_samples(location: SamplesLocation, target: str, *, batch_size: int = _BATCH) -> SampleSet:
    """Opens a sample set; a `.npz` without the target key is a set without labels (see `_require_target`)."""
    from edgeport.calibration import data

    if isinstance(location, SamplesFunction):
        return data.FunctionSamples(location.function, search_path=location.search_path)
    key: str | None = None
    if target:
        with np.load(location.path, allow_pickle=False) as file:
            key = target if target in file.files else None
    return data.NpzSamples(location.path, key, batch_size)


def location_from_json(values: dict[str, Any]) -> SamplesLocation:
    """The location that `to_jsonable` wrote."""
    if "function" in values:
        search_path = values["search_path"]
        return SamplesFunction(function=values["function"], search_path=Path(search_path) if search_path else None)
    return SamplesFile(path=Path(values["path"]))


def prepare_samples(context: RunContext) -> PreparedSamples:
    """Checks the recipe's sample sets and writes the files that later steps read.

    Only calling a function tells which samples it gives now. So functions are called in every run, and the samples'
    fingerprints are in the keys of all that follows; files are read once.

    Raises:
        SamplesError: Damaged, empty, of unequal lengths, with NaN or Inf, or not what [inputs] or the ONNX model says;
            or calibration and evaluation overlap.
        RecipeError: The ONNX model has no such output as the recipe judges; or the labels that the recipe names or its
            metric needs are not there.

    """
    data = context.recipe.data
    asked = {
        "target": data.target,
        "inputs": [to_jsonable(spec) for spec in context.recipe.inputs],
        "model_inputs": [to_jsonable(spec) for spec in _inputs_of_onnx(context.recipe)],
        "example": _example_batch(context.recipe),
    }

    def build(folder: Path) -> None:
        payload = {
            **asked,
            "evaluation": to_jsonable(data.evaluation),
            "calibration": to_jsonable(data.calibration) if data.calibration else None,
            "folder": str(folder),
        }
        run_isolated(
            "edgeport.pipeline.samples:write_samples",
            payload,
            limits=context.limits,
            asked="read the evaluation samples",
        )

    if isinstance(data.evaluation, SamplesFunction) or isinstance(data.calibration, SamplesFunction):
        folder = context.scratch / "samples"
        folder.mkdir(parents=True)
        build(folder)
    else:
        files = [digest_file(one.path) for one in (data.evaluation, data.calibration) if one is not None]
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
        target=target if target.exists() else None,
        example=folder / "example.npz",
        single=folder / "single.npz",
        count=facts["count"],
        fingerprint=facts["fingerprint"],
        calibration_fingerprint=facts["calibration_fingerprint"],
        calibration_count=facts["calibration_count"],
        warnings=tuple(facts["warnings"]),
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
            fix=("yield (inputs, labels)" if function else "name their array in [data] target")
            + ', or take metric = "agreement", which needs none',
        )


def _require_target(location: SamplesLocation, target: str) -> None:
    """Makes sure that the labels which the recipe names lie in the evaluation set's file."""
    if not target or isinstance(location, SamplesFunction):
        return
    with np.load(location.path, allow_pickle=False) as file:
        known = list(file.files)
    if target not in known:
        near = difflib.get_close_matches(target, known, n=1)
        raise RecipeError(
            asked=f"read the labels {target!r} ([data] target)",
            found=f"{location.path.name} with the arrays {', '.join(map(repr, known))}",
            fix=f"did you mean {near[0]!r}?" if near else "name the labels' array, or leave target out",
        )


def _declared_batch(recipe: Recipe) -> int | None:
    return next((spec.shape[0] for spec in recipe.inputs if spec.shape and isinstance(spec.shape[0], int)), None)


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
    from edgeport.calibration.data import NpzSamples

    _check("evaluation", NpzSamples(samples.single, None, 1), model.inputs, "the model's inputs are")


def _inputs_of_onnx(recipe: Recipe) -> tuple[TensorSpec, ...]:
    """Inputs of a model that is ONNX already; of another one they are known after the export."""
    if not recipe.source.location.endswith(".onnx"):
        return ()
    from edgeport.onnx_files import open_onnx

    model = open_onnx(Path(recipe.source.location))
    require_output(model, recipe)
    return model.inputs


def write_samples(payload: dict[str, Any]) -> dict[str, Any]:
    """Child's side of `prepare_samples`: checks both sets, and that they are disjoint; writes the files."""
    from edgeport.calibration.data import check_disjoint

    folder = Path(payload["folder"])
    declared, of_model = (_specs(payload[name]) for name in ("inputs", "model_inputs"))
    location = location_from_json(payload["evaluation"])
    _require_target(location, payload["target"])
    evaluation = open_samples(location, payload["target"])
    warnings = _checked("evaluation", evaluation, declared, of_model)
    facts: dict[str, Any] = {"calibration_fingerprint": "", "calibration_count": 0, "warnings": warnings}
    walked = _write(evaluation, folder, payload["example"])
    if walked.fingerprint != evaluation.fingerprint:
        raise not_repeatable(payload["evaluation"].get("function", ""))
    if payload["calibration"] is not None:
        calibration = open_samples(location_from_json(payload["calibration"]), payload["target"])
        _checked("calibration", calibration, declared, of_model)  # what is odd there, the calibration says itself
        check_disjoint(calibration, evaluation)
        facts |= {"calibration_fingerprint": calibration.fingerprint, "calibration_count": len(calibration)}
    facts |= {"count": walked.count, "fingerprint": walked.fingerprint}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return {}


def not_repeatable(function: str) -> SamplesError:
    """The error for a function whose samples differ from call to call."""
    return SamplesError(
        asked=f"walk the samples of {function} again",
        found="other samples than the time before",
        fix="make the function give the same samples each time it is called: seed what is random",
        details={"problem": "not-repeatable"},
    )


def _specs(values: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(load_json(TensorSpec, json.dumps(one)) for one in values)


def _checked(
    which: str, samples: SampleSet, declared: tuple[TensorSpec, ...], of_model: tuple[TensorSpec, ...]
) -> list[str]:
    """What is odd about a set, a sentence each; compared with all inputs that are known, else with its first batch."""
    odd: list[str] = []
    if declared:
        odd += _check(which, samples, declared, "[inputs] declares")
    if of_model:
        odd += _check(which, samples, of_model, "the model's inputs are")
    if not declared and not of_model:
        odd += _check(which, samples, _inferred(next(iter(samples), None)), "the first batch has")
    return list(dict.fromkeys(f"{which.capitalize()}: {message}" for message in odd))


def _check(which: str, samples: SampleSet, specs: tuple[TensorSpec, ...], whose: str) -> list[str]:
    from edgeport.calibration.data import check_samples

    first, known = next(iter(samples), None), [spec.name for spec in specs]
    extra = [name for name in first.feeds if name not in known] if first is not None else []
    if first is not None and extra and all(name in first.feeds for name in known):
        also = f"declare {', '.join(f'[inputs.{name}]' for name in extra)} too, or " if "declare" in whose else ""
        raise SamplesError(
            asked=f"feed the {which} samples {', '.join(map(repr, first.feeds))}",
            found=f"{whose} {', '.join(map(repr, known))}; nothing there takes {', '.join(map(repr, extra))}",
            fix=f"{also}leave out what is no input; the labels' array is named by [data] target",
            details={"problem": "name", "input": extra[0]},
        )
    try:
        return [lint.message for lint in check_samples(samples, specs)]
    except SamplesError as error:
        asked = f"{error.asked} ({which} samples)"
        raise SamplesError(asked=asked, found=error.found, fix=error.fix, details=error.details) from error


def _inferred(first: Sample | None) -> tuple[TensorSpec, ...]:
    """Names, dtypes and numbers of axes, as the first batch has them."""
    if first is None:
        return ()
    return tuple(
        TensorSpec(
            name=name,
            dtype="string" if array.dtype.kind in "UTO" else str(array.dtype),
            shape=tuple("samples" if axis == 0 else f"axis {axis} of {name}" for axis in range(array.ndim)),
        )
        for name, array in first.feeds.items()
    )


def _write(samples: SampleSet, folder: Path, example: int) -> Walk:
    """Writes the set batch by batch, and tells what was written."""
    from edgeport.calibration.data.digests import walk

    with ExitStack() as stack:
        feeds: dict[str, GrowingArray] = {}
        targets: dict[str, GrowingArray] = {}
        head: list[Sample] = []

        def keep(arrays: dict[str, GrowingArray], key: str, what: str, rows: Array) -> None:
            if key not in arrays:
                arrays[key] = stack.enter_context(closing(GrowingArray(folder)))
            _add(arrays[key], what, rows)

        def passing() -> Iterator[Sample]:
            for batch in samples:
                if sum(map(len, head)) < example:
                    head.append(batch)
                for key, array in batch.feeds.items():
                    keep(feeds, key, f"input {key!r}", array)
                if batch.target is not None:
                    keep(targets, "", "the target", batch.target)
                yield batch

        walked = walk(passing())
        if targets and len(targets[""]) != walked.count:
            raise SamplesError(
                asked="judge outputs by the samples' targets",
                found=f"targets for {len(targets[''])} of {walked.count} samples",
                fix="give a target with every batch, or with none",
            )
        save_npz(folder / "feeds.npz", feeds)
        if targets:
            with (folder / "target.npy").open("wb") as file:
                save_npy(file, targets[""])
    first = {key: np.concatenate([batch.feeds[key] for batch in head]) for key in feeds}
    save_npz(folder / "example.npz", first_batch(first, example))
    save_npz(folder / "single.npz", first_batch(first, 1))
    return walked


def _add(array: GrowingArray, what: str, rows: Array) -> None:
    try:
        array.add(rows)
    except ValueError as error:
        raise SamplesError(
            asked=f"keep {what} of every evaluation sample in one array",
            found=str(error),
            fix="give all samples of the evaluation set the same dtype and shape: pad, crop or convert them",
            details={"problem": "shape"},
        ) from error
