"""The sample sets of a recipe, opened; the evaluation set also as the file that devices are fed from."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Array, AxisRange, OnnxModel, Sample, SampleSet, TensorSpec, load_json, to_jsonable
from edgeport.contracts.recipe import (
    Recipe,
    SamplesFile,
    SamplesFolder,
    SamplesFunction,
    SamplesLocation,
    SamplesMade,
    SamplesTable,
)
from edgeport.errors import RecipeError, SamplesError
from edgeport.isolation import run_isolated
from edgeport.npz import GrowingArray, load_npz, save_npy, save_npz
from edgeport.pipeline.batches import first_batch
from edgeport.pipeline.context import RunContext
from edgeport.pipeline.layout import Layout, Timed
from edgeport.pipeline.likeness import Looks, label_warnings, require_alike
from edgeport.pipeline.linking import fed_by_others, require_links, states_of_model
from edgeport.pipeline.locations import location_from_json, location_state, open_samples
from edgeport.pipeline.preparation import Preparation
from edgeport.rows import SHAPE, Gathered, Rows

if TYPE_CHECKING:
    from edgeport.calibration.data import Profile
    from edgeport.calibration.data.digests import Walk

__all__ = [
    "PreparedSamples",
    "arrangement_of",
    "inputs_of_onnx",
    "prepare_samples",
    "require_fit",
    "require_output",
    "write_samples",
]

_BATCH = 32
_SPOOL = "prepared"
_LEARNT = ("calibration", "training")
_FACTS: dict[str, str | int] = {"fingerprint": "", "count": 0}


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
            "edgeport.pipeline.samples:write_samples",
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


def _require_target(location: SamplesLocation, target: str) -> None:
    """Makes sure that the labels which the recipe names lie in the evaluation set's file."""
    from edgeport.calibration.data import columns_of

    if not target or not isinstance(location, SamplesFile | SamplesTable):
        return
    table = isinstance(location, SamplesTable)
    if table:
        known = list(columns_of(location.path))
    else:
        with np.load(location.path, allow_pickle=False) as file:
            known = list(file.files)
    if target not in known:
        near = difflib.get_close_matches(target, known, n=1)
        raise RecipeError(
            asked=f"read the labels {target!r} ([data] target)",
            found=f"{location.path.name} with the {'columns' if table else 'arrays'} {', '.join(map(repr, known))}",
            fix=f"did you mean {near[0]!r}?"
            if near
            else f"name the labels' {'column' if table else 'array'}, or leave target out",
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

    rows = Rows.of(load_npz(samples.single), tuple(model.state.values()))
    feeds = rows.cut(0, 1) if rows.shapes else rows.values
    _check("evaluation", ArraySamples(feeds), model.fed, "the model's inputs are")


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


def write_samples(payload: dict[str, Any]) -> dict[str, Any]:
    """Child's side of `prepare_samples`: checks both sets, and that they are disjoint; writes the files."""
    from edgeport.calibration.data import check_disjoint

    folder = Path(payload["folder"])
    preparation = Preparation.from_payload(payload)
    unfolded = tuple(_specs(payload[name]) for name in ("inputs", "model_inputs"))
    declared, of_model = (preparation.fed(specs) for specs in unfolded)
    axes = {name: load_json(AxisRange, json.dumps(span)) for name, span in payload.get("axes", {}).items()}
    location = location_from_json(payload["evaluation"])
    _require_target(location, payload["target"])
    arrangement = payload.get("arrangement")
    known = _Known(declared=declared, of_model=of_model, axes=axes)
    looks = Looks.unseen()

    def opened(where: SamplesLocation, how: Mapping[str, Any] | None) -> SampleSet:
        inputs = unfolded[0] or unfolded[1]
        return open_samples(where, payload["target"], inputs=inputs, raw=preparation.raw, arrangement=how)

    evaluation = _as_fed(opened(location, arrangement), preparation, folder)
    warnings = _checked("evaluation", evaluation, known, looks.evaluation)
    facts: dict[str, Any] = {f"{which}_{what}": empty for which in _LEARNT for what, empty in _FACTS.items()}
    states = _specs(payload.get("states", []))
    layout = Layout(specs=declared or of_model, axes=axes, states=states, initial=payload.get("initial", {}))
    before = replace(layout, specs=unfolded[0] or unfolded[1])
    walked, timed, example = _write(evaluation, folder, payload["example"], layout)
    save_npz(folder / "example.npz", before.traceable(preparation.unfolded(example)))
    if preparation.folded:
        _write_unfolded(evaluation, folder, preparation, before)
    warnings += timed.notes
    facts |= {"warnings": warnings, "timed_row": timed.row, "starts": timed.starts, "is_ragged": timed.is_ragged}
    if walked.fingerprint != evaluation.fingerprint:
        raise not_repeatable(payload["evaluation"].get("function", ""))
    if payload["calibration"] is not None:
        where = location_from_json(payload["calibration"])
        calibration = preparation.prepared(opened(where, arrangement))
        if isinstance(where, SamplesFolder) and isinstance(location, SamplesFolder):
            require_alike(opened(where, None), opened(location, None))
        # What is odd there in itself, the calibration says.
        _checked("calibration", calibration, known, looks.calibration)
        warnings += looks.differences()
        check_disjoint(calibration, evaluation)
        facts |= {"calibration_fingerprint": calibration.fingerprint, "calibration_count": len(calibration)}
    if payload.get("training") is not None:
        where = location_from_json(payload["training"])
        training = preparation.prepared(opened(where, arrangement))
        if isinstance(where, SamplesFolder) and isinstance(location, SamplesFolder):
            require_alike(opened(where, None), opened(location, None))
        warnings += _checked("training", training, known, Looks.unseen().calibration)
        check_disjoint(training, evaluation, "training")
        facts |= {"training_fingerprint": training.fingerprint, "training_count": len(training)}
    facts["warnings"] += label_warnings(folder / "target.npy", payload["classes"], payload["metric"])
    facts |= {"count": walked.count, "fingerprint": walked.fingerprint}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    shutil.rmtree(folder / _SPOOL, ignore_errors=True)
    return {}


def _as_fed(raw: SampleSet, preparation: Preparation, folder: Path) -> SampleSet:
    """The evaluation set as devices feed it; what must be preprocessed for that is so once, and kept in files."""
    from edgeport.calibration.data import Spooled

    return Spooled(preparation.prepared(raw), folder / _SPOOL) if preparation.does_something else raw


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


@dataclass(frozen=True, kw_only=True)
class _Known:
    """The inputs that are declared, and the model's, empty where they are not known; and the ranges of free axes."""

    declared: tuple[TensorSpec, ...]
    of_model: tuple[TensorSpec, ...]
    axes: Mapping[str, AxisRange]


def _checked(
    which: str,
    samples: SampleSet,
    known: _Known,
    looks: dict[str, Profile],
) -> list[str]:
    """What is odd about a set, a sentence each; compared with all inputs that are known, else with its first batch.

    Args:
        which: Name of the set.
        samples: The set.
        known: What it must fit.
        looks: By input; each is shown the samples once.

    """
    odd: list[str] = []
    declared, of_model, axes = known.declared, known.of_model, known.axes
    if declared:
        odd += _check(which, samples, declared, "[inputs] declares", axes=axes, looks=looks)
    if of_model:
        whose = "the model's inputs are"
        odd += _check(which, samples, of_model, whose, axes=axes, looks=None if declared else looks)
    if not declared and not of_model:
        inferred = _inferred(next(iter(samples), None))
        odd += _check(which, samples, inferred, "the first batch has", axes=axes, looks=looks)
    return list(dict.fromkeys(f"{which.capitalize()}: {message}" for message in odd))


def _check(
    which: str,
    samples: SampleSet,
    specs: tuple[TensorSpec, ...],
    whose: str,
    *,
    axes: Mapping[str, AxisRange] | None = None,
    looks: dict[str, Profile] | None = None,
) -> list[str]:
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
        return [lint.message for lint in check_samples(samples, specs, axes, looks)]
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


def _write_unfolded(samples: SampleSet, folder: Path, preparation: Preparation, layout: Layout) -> None:
    """What devices feed once more, as the float model takes it."""
    from edgeport.calibration.data import Preprocessed

    with ExitStack() as stack:
        kept = _Kept(stack=stack, folder=folder, layout=layout, example=0)
        for _ in kept.passing(Preprocessed(samples, preparation.unfolded)):
            pass
        kept.save_feeds("unfolded.npz")


def _write(samples: SampleSet, folder: Path, example: int, layout: Layout) -> tuple[Walk, Timed, dict[str, Array]]:
    """Writes the set batch by batch, and tells what was written, which of it is timed, and what the export traces."""
    from edgeport.calibration.data.digests import walk

    with ExitStack() as stack:
        kept = _Kept(stack=stack, folder=folder, layout=layout, example=example)
        walked = walk(kept.passing(samples))
        shapes = kept.save(walked.count)
    timed = layout.timed(shapes, kept.starts, kept.head, walked.count)
    first = _taken(samples, timed.row, timed.row + 1) if shapes else _joined(kept.head, kept.feeds)
    if layout.states:
        save_npz(folder / "single.npz", {**_taken(samples, 0, timed.row + 1), **layout.begins()})
    else:
        save_npz(folder / "single.npz", first_batch(first, 1))
    return walked, timed, first_batch(first, example)


@dataclass(kw_only=True)
class _Kept:
    """The evaluation set on its way to the disk, no more than a batch of it in memory."""

    stack: ExitStack
    folder: Path
    layout: Layout
    example: int
    head: list[Sample] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    feeds: dict[str, GrowingArray] = field(default_factory=dict)
    targets: dict[str, GrowingArray] = field(default_factory=dict)

    def passing(self, samples: SampleSet) -> Iterator[Sample]:
        """Each batch, once it is kept."""
        done = 0
        for batch in samples:
            if sum(map(len, self.head)) < self.example:
                self.head.append(batch)
            for key, array in batch.feeds.items():
                self._keep(self.feeds, key, self.layout.free(key), array)
            if batch.target is not None:
                self._keep(self.targets, "", self.layout.free_in_target, batch.target)
            if batch.first is not None:
                self.starts.extend((done + np.flatnonzero(batch.first)).tolist())
            done += len(batch)
            yield batch

    def _keep(self, arrays: dict[str, GrowingArray], key: str, free: frozenset[int], rows: Array) -> None:
        if key not in arrays:
            arrays[key] = self.stack.enter_context(closing(GrowingArray(self.folder, free)))
        _add(arrays[key], f"input {key!r}" if key else "the target", rows)

    def save(self, count: int) -> dict[str, Array]:
        """Writes the files; the shapes of those inputs whose samples differ in it."""
        target = self.targets.get("")
        if target is not None and len(target) != count:
            raise SamplesError(
                asked="judge outputs by the samples' targets",
                found=f"targets for {len(target)} of {count} samples",
                fix="give a target with every batch, or with none",
            )
        shapes = self.save_feeds("feeds.npz")
        if target is not None:
            with (self.folder / "target.npy").open("wb") as file:
                save_npy(file, target)
            if target.shapes is not None:
                np.save(self.folder / "target.shapes.npy", target.shapes, allow_pickle=False)
        return shapes

    def save_feeds(self, name: str) -> dict[str, Array]:
        """Writes one file of inputs; the shapes of those whose samples differ in it."""
        shapes = {key: found for key, each in self.feeds.items() if (found := each.shapes) is not None}
        ragged = {f"{key}{SHAPE}": each for key, each in shapes.items()}
        save_npz(self.folder / name, {**self.feeds, **ragged, **self.layout.begins()})
        return shapes


def _joined(head: Sequence[Sample], names: Iterable[str]) -> dict[str, Array]:
    return {key: np.concatenate([batch.feeds[key] for batch in head]) for key in names}


def _taken(samples: SampleSet, start: int, stop: int) -> dict[str, Array]:
    """Samples `start` to `stop`, in another walk."""
    done, taken = 0, Gathered()
    for batch in samples:
        rows = slice(max(start - done, 0), max(stop - done, 0))
        part = {name: array[rows] for name, array in batch.feeds.items()}
        if rows.stop > rows.start and rows.start < len(batch):
            taken.add(part)
        done += len(batch)
        if done >= stop:
            break
    return taken.arrays()


def _add(array: GrowingArray, what: str, rows: Array) -> None:
    try:
        array.add(rows)
    except TypeError as error:
        raise SamplesError(
            asked=f"keep {what} of every evaluation sample in one array",
            found=str(error),
            fix='give all samples of the evaluation set numbers or text of one dtype, such as array.astype("float32")',
            details={"problem": "dtype"},
        ) from error
    except ValueError as error:
        raise SamplesError(
            asked=f"keep {what} of every evaluation sample in one array",
            found=str(error),
            fix="give all samples of the evaluation set one shape: pad or crop them; or, where "
            'the model takes any size of an axis, name that axis: [inputs.NAME] shape = ["batch", "length"]',
            details={"problem": "shape"},
        ) from error
