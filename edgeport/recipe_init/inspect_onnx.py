"""Looks at an ONNX file: sizes for its free axes with which it runs, and what integers it takes.

Called as `run_isolated("edgeport.recipe_init.inspect_onnx:look_at_onnx", payload)`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import (
    Array,
    Arrays,
    OnnxModel,
    OnProgress,
    ProgressEvent,
    TensorSpec,
    load_json,
    silent,
    to_jsonable,
)
from edgeport.errors import ModelError, SamplesError
from edgeport.recipe_init.assign import kind_of, without_lengths
from edgeport.recipe_init.columns import Columns, ways_of_columns
from edgeport.recipe_init.image_preprocessing import Pixels, pixels_for
from edgeport.recipe_init.input_inference import MOST_SIDE, read_first
from edgeport.recipe_init.input_spec import Guess, Kind, draw
from edgeport.recipe_init.sample_formats import SampleFormat
from edgeport.recipe_init.state_detection import likely_links

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeport.contracts import RunModel

__all__ = ["look_at_onnx"]

_SIDES = (224, 64, 32, 320, 416, 512, 640)
_RATES, _RATE = ("sr", "sample_rate", "sampling_rate"), 16000
"""Numbers that some models of speech are fed with each call, and what they usually are, in Hz."""
_LENGTHS = (16, 64, 128, 512, 16000, 8, 4, 1)


def look_at_onnx(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Opens an ONNX file, and runs it on random inputs.

    Args:
        payload: `model` (an `OnnxModel`), and what the samples are, as in `look_at_module`.
        on_progress: Told of each step.

    Returns:
        As `look_at_module`.

    Raises:
        UnsupportedByBackend: It has operators that ONNX Runtime has not.
        ModelError: It runs with none of the likely sizes.
        SamplesError: The samples do not fit its inputs.

    """
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.onnx_files import quantization_evidence, read_ir

    on_progress(ProgressEvent(stage="look", message="open the model", done=0, total=2))
    model = load_json(OnnxModel, json.dumps(payload["model"]))
    graph = read_ir(model.path)
    evidence = quantization_evidence(graph)
    form, facts = SampleFormat(payload.get("form") or SampleFormat.NAMED), payload.get("facts") or {}
    links, possible = likely_links(
        {spec.name: spec.shape for spec in model.inputs}, {spec.name: spec.shape for spec in model.outputs}
    )
    model = replace(model, state=links)
    constants = {spec.name: _RATE for spec in model.fed if not spec.shape and spec.name.lower() in _RATES}
    fed = tuple(spec for spec in model.fed if spec.name not in constants)
    given, columns = _given(payload, form, fed, steps=bool(links))
    on_progress(ProgressEvent(stage="look", message="run it", done=1, total=2))
    rows = next((spec.shape[0] for spec in fed if spec.shape and isinstance(spec.shape[0], int)), 2)
    with open_reference(model.path) as run:
        sizes = _sizes(fed, given, _sizes_of_files(form, facts, fed))
        trial = _Trial(run=run, model=model, fed=fed, constants=constants, graph=graph, rows=rows)
        inputs, everything, seconds = _first_that_runs(trial, given, sizes)
    outputs = {name: array for name, array in everything.items() if name not in links}
    first = next(iter(outputs.values()))
    others = [name for name in given if name not in {spec.name for spec in model.inputs}]
    labels, lengths = without_lengths(others, inputs, payload.get("target", ""))
    if columns is not None:
        labels = [columns.target] if columns.target else []
        lengths = columns.lengths and any(one.axes for one in inputs)
    return {
        "inputs": [to_jsonable(one) for one in inputs],
        "outputs": {name: list(array.shape[1:]) for name, array in outputs.items()},
        "spread": float(np.std(first.astype(np.float64))) if first.size else 0.0,
        "seconds": seconds / rows,
        "labels": labels,
        "lengths": lengths,
        "columns": to_jsonable(columns) if columns is not None else None,
        "pixels": to_jsonable(_pixels(inputs, facts)) if form is SampleFormat.IMAGES else None,
        "cut": form is SampleFormat.SOUNDS and (not facts["alike"] or inputs[0].shape[-1] != facts["length"]),
        "state": links,
        "constants": constants,
        "stateful": possible,
        "fixed_batch": rows,
        "dynamic_batch": not any(spec.shape and isinstance(spec.shape[0], int) for spec in fed),
        "legacy": False,
        "ranges": {},
        "notes": [f"{model.path.name} is quantized already ({evidence[0]}): each runtime gets it as it is."]
        if evidence
        else [],
    }


def _given(
    payload: Mapping[str, Any], form: SampleFormat, specs: tuple[TensorSpec, ...], *, steps: bool
) -> tuple[dict[str, Array], Columns | None]:
    """The first samples by name, and how a table feeds the inputs."""
    names = [spec.name for spec in specs]
    if form is SampleFormat.TABLE:
        columns = _columns_that_fit(specs, payload["facts"], payload.get("target", ""), steps=steps)
        first: Mapping[str, Sequence[str]] = payload["facts"]["first"]
        cells = {
            name: [list(map(float, first[one])) for one in ([of] if isinstance(of, str) else of)]
            for name, of in columns.inputs.items()
        }
        scalars = {name for name, of in columns.inputs.items() if isinstance(of, str)}
        return {
            name: np.array(each[0] if name in scalars else np.transpose(each)) for name, each in cells.items()
        }, columns
    if form in (SampleFormat.IMAGES, SampleFormat.SOUNDS) and len(specs) != 1:
        raise SamplesError(
            asked=f"feed {', '.join(names)} with {form}",
            found=f"{len(specs)} inputs, and a folder has {form} for one",
            fix="give arrays by name: a .npz, or a function (pkg.mod:function)",
        )
    return (read_first(payload["samples"], names) if payload.get("samples") else {}), None


def _columns_that_fit(specs: tuple[TensorSpec, ...], facts: Mapping[str, Any], target: str, *, steps: bool) -> Columns:
    def fits(spec: TensorSpec, of: str | tuple[str, ...]) -> bool:
        axes = spec.shape[1:]
        return not axes if isinstance(of, str) else len(axes) == 1 and (isinstance(axes[0], str) or axes[0] == len(of))

    ways = list(ways_of_columns(facts["columns"], [spec.name for spec in specs], target, steps=steps))
    for columns in ways:
        if all(fits(spec, columns.inputs[spec.name]) for spec in specs):
            return columns
    takes = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs)
    raise SamplesError(
        asked=f"feed a model from the columns {', '.join(map(repr, facts['columns']))}",
        found=f"that it takes {takes}",
        fix="leave out columns that are no input, name that of the labels (--target), and call those of each input as "
        "it: age, or facts_0, facts_1 for a vector",
    )


def _sizes_of_files(form: SampleFormat, facts: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Sizes of free axes that images or sounds have themselves."""
    free = {index: name for index, name in specs[0].dynamic_axes.items() if index} if specs else {}
    if form is SampleFormat.SOUNDS and len(specs[0].shape) - 1 in free:
        return {free[len(specs[0].shape) - 1]: int(facts["length"])}
    if form is SampleFormat.IMAGES and facts["alike"] and max(facts["size"]) <= MOST_SIDE and len(specs[0].shape) == 4:
        first = 1 if specs[0].shape[-1] in (1, 3) else 2
        return {free[first + index]: int(size) for index, size in enumerate(facts["size"]) if first + index in free}
    return {}


def _pixels(inputs: tuple[Guess, ...], facts: Mapping[str, Any]) -> Pixels:
    high, wide = facts["size"]
    return pixels_for(inputs[0], None, (high, wide), fixed=True)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A model that is run on likely inputs."""

    run: RunModel
    model: OnnxModel
    fed: tuple[TensorSpec, ...]
    constants: Mapping[str, int]
    graph: ir.Model
    rows: int

    def feeds(self, inputs: Sequence[Guess]) -> dict[str, Array]:
        """Random samples, and the inputs that none feed."""
        dtypes = {spec.name: spec.dtype for spec in self.model.inputs}
        fixed = {name: np.array(value, dtypes[name]) for name, value in self.constants.items()}
        return {**draw(inputs, self.rows), **fixed}


def _first_that_runs(
    trial: _Trial, given: Arrays, sizes: Iterable[Mapping[str, int]]
) -> tuple[tuple[Guess, ...], dict[str, Array], float]:
    failed, model = "", trial.model
    states = {spec.name for spec in model.inputs if spec.name in model.state.values()}
    for each in sizes:
        inputs = tuple(
            _state(spec, trial.rows) if spec.name in states else _guess(spec, each, trial.graph, given)
            for spec in model.inputs
            if spec.name not in trial.constants
        )
        try:
            feeds = trial.feeds(inputs)
            trial.run(feeds)
            start = time.perf_counter()
            return inputs, trial.run(feeds), time.perf_counter() - start
        except Exception as error:  # noqa: BLE001 (whatever a runtime raises; the next size may do)
            failed = failed or str(error).strip()
    raise ModelError(
        asked=f"run {model.path.name} on random inputs",
        found=f"that none of the likely sizes of its free axes does ({failed[:300]})",
        fix="give --samples with arrays as the model takes them",
    )


def _sizes(specs: tuple[TensorSpec, ...], given: Arrays, preferred: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    """Sizes for every free axis but the batch, by its name; those of the samples where there are some."""
    spatial: set[str] = set()
    other: set[str] = set()
    known: dict[str, int] = {}
    for spec in specs:
        for index, name in spec.dynamic_axes.items():
            if index == 0:
                continue
            (spatial if len(spec.shape) == 4 else other).add(name)
            if spec.name in given and given[spec.name].ndim == len(spec.shape):
                known[name] = given[spec.name].shape[index]
    if preferred:
        yield {**dict.fromkeys(other, _LENGTHS[0]), **dict.fromkeys(spatial, _SIDES[0]), **known, **preferred}
    for length in _LENGTHS if other else (1,):
        for side in _SIDES if spatial else (1,):
            yield {**dict.fromkeys(other, length), **dict.fromkeys(spatial, side), **known}


def _state(spec: TensorSpec, rows: int) -> Guess:
    """What a state begins with; its batch is the axis that is free, or as large as the batch is."""
    free = [index for index, size in enumerate(spec.shape) if isinstance(size, str)]
    axis = (free or [index for index, size in enumerate(spec.shape) if size == rows] or [0])[0]
    shape = tuple(1 if isinstance(size, str) else size for index, size in enumerate(spec.shape) if index != axis)
    why = "a state, which begins with zeros"
    return Guess(name=spec.name, dtype=spec.dtype, shape=shape, kind=Kind.STATE, why=why, batch_axis=axis)


def _guess(spec: TensorSpec, sizes: Mapping[str, int], graph: ir.Model, given: Arrays) -> Guess:
    axes = {index: name for index, name in spec.dynamic_axes.items() if index > 0}
    shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape[1:])
    kind, high = kind_of(spec.name, spec.dtype)
    if kind is Kind.INTEGERS:
        high = _largest_index(graph, spec.name) or high
    low = 0.0
    array = given.get(spec.name)
    if array is not None and array.size and array.dtype.kind in "fiu":
        low, high = float(array.min()), float(array.max())
    why = "from the file"
    return Guess(name=spec.name, dtype=spec.dtype, shape=shape, kind=kind, low=low, high=high, axes=axes, why=why)


def _largest_index(graph: ir.Model, name: str) -> float:
    """Of an input that looks rows of a constant up: the number of rows, less one; 0 where it does not."""
    value = next((one for one in graph.graph.inputs if one.name == name), None)
    waiting, seen = [value] if value is not None else [], set()
    while waiting:
        current = waiting.pop()
        for node, index in current.uses():
            table = node.inputs[0]
            if node.op_type == "Gather" and index == 1 and table is not None and table.const_value is not None:
                return float(table.const_value.numpy().shape[0]) - 1.0
            if node.op_type in ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity") and id(node) not in seen:
                seen.add(id(node))
                waiting += node.outputs
    return 0.0
