"""The child's side of a recipe's sample sets: they are checked, and written as the files that later steps read."""

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

from edgeport.contracts import Array, AxisRange, Sample, SampleSet, TensorSpec, load_json
from edgeport.contracts.recipe import SamplesFile, SamplesFolder, SamplesLocation, SamplesTable
from edgeport.errors import RecipeError, SamplesError
from edgeport.npz import GrowingArray, save_npy, save_npz
from edgeport.pipeline.datasets.batching import first_batch
from edgeport.pipeline.datasets.checks import Looks, label_warnings, require_alike
from edgeport.pipeline.datasets.layout import Layout, Timed
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import location_from_json, open_samples
from edgeport.ragged import SHAPE, OutputAccumulator

if TYPE_CHECKING:
    from edgeport.calibration.data import Profile
    from edgeport.calibration.data.digests import SetDigest

__all__ = ["check_set", "not_repeatable", "write_samples"]

_SPOOL = "prepared"
_LEARNT = ("calibration", "training")
_FACTS: dict[str, str | int] = {"fingerprint": "", "count": 0}


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
    from edgeport.calibration.data import CachedSamples

    return CachedSamples(preparation.prepared(raw), folder / _SPOOL) if preparation.does_something else raw


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
        odd += check_set(which, samples, declared, "[inputs] declares", axes=axes, looks=looks)
    if of_model:
        whose = "the model's inputs are"
        odd += check_set(which, samples, of_model, whose, axes=axes, looks=None if declared else looks)
    if not declared and not of_model:
        inferred = _inferred(next(iter(samples), None))
        odd += check_set(which, samples, inferred, "the first batch has", axes=axes, looks=looks)
    return list(dict.fromkeys(f"{which.capitalize()}: {message}" for message in odd))


def check_set(
    which: str,
    samples: SampleSet,
    specs: tuple[TensorSpec, ...],
    whose: str,
    *,
    axes: Mapping[str, AxisRange] | None = None,
    looks: dict[str, Profile] | None = None,
) -> list[str]:
    """What is odd about a set beside these inputs, a sentence each.

    Args:
        which: Name of the set.
        samples: The set.
        specs: What it must fit.
        whose: Where they are from, as the beginning of a sentence that names them.
        axes: Ranges of free axes.
        looks: By input; each is shown the samples once.

    Raises:
        SamplesError: A wrong name, shape or dtype.

    """
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


def _write(samples: SampleSet, folder: Path, example: int, layout: Layout) -> tuple[SetDigest, Timed, dict[str, Array]]:
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
    done, taken = 0, OutputAccumulator()
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
