"""Looks at a model in a child process: what goes in and comes out, what may be free, and whether it exports.

The user's code runs here. Called as `run_isolated("edgeport.recipe_init.inspect_module:look_at_module", payload)`.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeport.contracts import Arrays, ModelSource, OnProgress, ProgressEvent, load_json, silent, to_jsonable
from edgeport.errors import DynamicShapeError, EdgeportError, ExportError, GraphBreakError, SourceError
from edgeport.exporter.options import ExportOptions
from edgeport.recipe_init.assign import FROM_SAMPLES, without_lengths
from edgeport.recipe_init.input_inference import find_inputs
from edgeport.recipe_init.input_spec import Guess, Kind, draw
from edgeport.recipe_init.state_detection import likely_links
from edgeport.recipe_init.trial_run import forward, problem_of

if TYPE_CHECKING:
    import torch

__all__ = ["look_at_module"]

_RANGE = re.compile(r"(\w+) = Dim\('\w+'(?:, min=(\d+))?, max=(\d+)\)")
"""How PyTorch says which sizes of a free axis a model takes: positions may be a table that ends."""

_OTHER_LENGTHS = (3, 5)
"""Added to a free axis, to see whether the model takes it; odd, for what halves its lengths."""


def look_at_module(payload: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, Any]:
    """Loads a model, finds its inputs, and tries an export.

    Args:
        payload: `source` (a `ModelSource`); and where they are known, `given` (a list of `Guess`: what the user
            declared) and what the samples are: `form` and `facts` (as `look_at_samples` returns them), `samples` (path
            of an `.npz` with two of them), `target` (key of the labels).
        on_progress: Told of each step.

    Returns:
        `inputs` (a list of `Guess`, their free axes those that the export kept), `outputs` (name to shape of one
        sample), `spread` (standard deviation of the first output), `seconds` (of one sample in PyTorch),
        `dynamic_batch`, `fixed_batch` (samples in a call where it is not), `legacy` (only the older exporter took it),
        `ranges` (smallest and largest size of a free axis, where not all do), `notes`, `labels` (names of arrays in the
        samples that are no input), `lengths` (one of them says how long each sample is), `columns` (of a table, a
        `Columns`), `pixels` (a `Pixels`, where samples are images), `cut` (sounds are brought to one length), `state`
        (output to the input that it feeds), `constants` (values of inputs that are not fed), `stateful` (output to
        input, where that may be a state).

    Raises:
        SourceError: No inputs were found that it runs with.
        GraphBreakError: Which code runs depends on values.
        ExportError: It can't be exported in any way; the first reason.

    """
    from edgeport.exporter.loaders.model_source import load_module, notes_on_source

    _tell(on_progress, "load the model", 0)
    source = load_json(ModelSource, json.dumps(payload["source"]))
    module = load_module(source)
    _tell(on_progress, "find its inputs", 1)
    found = find_inputs(source, module, payload)
    _tell(on_progress, "try which axes may be free", 2)
    inputs = _with_free_axes(module, found.inputs)
    labels, lengths = without_lengths(found.others, inputs, payload.get("target", ""))
    if found.columns is not None:
        lengths = found.columns.lengths and any(one.axes for one in inputs)
    everything, seconds, batch = _run(module, inputs)
    links, possible = likely_links(
        {name: array.shape for name, array in draw(inputs, batch).items()},
        {name: array.shape for name, array in everything.items()},
    )
    inputs = _states_settled(inputs, links)
    outputs = {name: array for name, array in everything.items() if name not in links}
    _require_a_batch_in_each(module, batch, outputs)
    _tell(on_progress, "try an export", 3)
    exported = _try_exports(module, inputs, links)
    first = next(iter(outputs.values()))
    return {
        "inputs": [to_jsonable(one) for one in exported.pop("inputs")],
        "outputs": {name: list(array.shape[1:]) for name, array in outputs.items()},
        "spread": float(np.std(first.astype(np.float64))) if first.size else 0.0,
        "seconds": seconds,
        "labels": labels,
        "lengths": lengths,
        "columns": to_jsonable(found.columns) if found.columns is not None else None,
        "pixels": to_jsonable(found.pixels) if found.pixels is not None else None,
        "cut": found.cut,
        "state": links,
        "constants": {},
        "stateful": possible,
        **exported,
        "notes": [*notes_on_source(source), *exported["notes"]],
    }


def _tell(on_progress: OnProgress, message: str, done: int) -> None:
    on_progress(ProgressEvent(stage="look", message=message, done=done, total=4))


def _with_free_axes(module: torch.nn.Module, guesses: tuple[Guess, ...]) -> tuple[Guess, ...]:
    """Keeps the names of those axes of which the model takes another size too."""
    names = {name for guess in guesses for name in guess.axes.values()}
    kept = {name for name in names if _takes_other_sizes(module, guesses, name)}
    return tuple(_only(guess, kept) for guess in guesses)


def _only(guess: Guess, names: set[str]) -> Guess:
    return replace(guess, axes={index: name for index, name in guess.axes.items() if name in names})


def _takes_other_sizes(module: torch.nn.Module, guesses: tuple[Guess, ...], name: str) -> bool:
    size = next(guess.shape[index - 1] for guess in guesses for index, axis in guess.axes.items() if axis == name)
    try:
        before = _shapes(module, guesses)
        after = [_shapes(module, tuple(one.resized({name: size + more}) for one in guesses)) for more in _OTHER_LENGTHS]
    except Exception:  # noqa: BLE001 (it does not take them)
        return False
    return all(shapes.keys() == before.keys() for shapes in after)


def _shapes(module: torch.nn.Module, guesses: Sequence[Guess]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in forward(module, guesses, 1).items()}


def _run(module: torch.nn.Module, guesses: tuple[Guess, ...]) -> tuple[Arrays, float, int]:
    """Outputs of two samples (of one, where it takes no more), seconds per sample in the second call, and how many."""
    batch = 2
    try:
        forward(module, guesses, batch)
    except EdgeportError:
        raise
    except Exception as error:
        batch = 1
        problem = problem_of(module, guesses, batch)
        if problem:
            given = ", ".join(f"{one.name}: {one.dtype} {list(one.declared)}" for one in guesses)
            raise SourceError(
                asked=f"run {type(module).__name__} on {given}",
                found=problem[:500],
                fix=_fix_of_inputs(guesses),
            ) from error
    start = time.perf_counter()
    outputs = forward(module, guesses, batch)
    return outputs, (time.perf_counter() - start) / batch, batch


def _fix_of_inputs(guesses: Sequence[Guess]) -> str:
    if all(one.why == FROM_SAMPLES for one in guesses):
        return 'give samples of the dtypes and shapes that forward takes, such as array.astype("float32")'
    return "give the right shapes and dtypes (--input NAME=batch,3,224,224, --input NAME=batch,16:int64), or --samples"


def _states_settled(inputs: tuple[Guess, ...], links: Mapping[str, str]) -> tuple[Guess, ...]:
    """What is linked is a state; what was but tried as one is an input, where samples can feed it."""
    into = set(links.values())
    for one in inputs:
        if one.kind is Kind.STATE and one.name not in into and one.batch_axis:
            raise SourceError(
                asked=f"link the state {one.name} to the output that it comes from",
                found="no output of its shape beside what is to be judged",
                fix="return the next state too, so that a call can hand it to the next; or let forward begin with "
                "zeros itself",
            )
    kinds = {True: Kind.STATE, False: Kind.VALUES}
    return tuple(
        replace(one, kind=kinds[one.name in into]) if one.name in into or one.kind is Kind.STATE else one
        for one in inputs
    )


def _require_a_batch_in_each(module: torch.nn.Module, batch: int, outputs: Arrays) -> None:
    """What the whole way needs of a model: outputs that can be told apart per sample."""
    wrong = {
        name: list(array.shape) for name, array in outputs.items() if not array.ndim or len(array) not in (1, batch)
    }
    if wrong:
        name, shape = next(iter(wrong.items()))
        raise ExportError(
            asked=f"keep output {name!r} of {type(module).__name__} per sample",
            found=f"shape {shape} for {batch} samples",
            fix="let axis 0 of every output be the batch: wrap the model in a factory that returns only such outputs "
            "(for an LSTM its output, or the last state transposed)",
        )


def _try_exports(module: torch.nn.Module, guesses: tuple[Guess, ...], state: Mapping[str, str]) -> dict[str, Any]:
    """As free as may be: the axes and the batch, the batch alone, neither; last by the older exporter."""
    import torch

    fixed = tuple(_only(guess, set()) for guess in guesses)
    ways = [(guesses, True, False), (guesses, False, False)]
    if fixed != guesses:
        # torch.export fixes the length of what a recurrent layer walks along; the older exporter does not.
        recurrent = any(isinstance(each, torch.nn.RNNBase) for each in module.modules())
        ways[1:1] = [*([(guesses, True, True)] if recurrent else []), (fixed, True, False)]
    ways += [(fixed, False, False)] if fixed != guesses else []
    ways += [(fixed, True, True), (fixed, False, True)]
    notes: list[str] = []
    first: EdgeportError | None = None
    branches = False
    for inputs, batch, legacy in ways:
        if legacy and branches:
            continue  # it would keep the branch that the first samples took, whatever others should take
        try:
            found, ranges = _exported(module, inputs, state, dynamic_batch=batch, legacy=legacy)
        except EdgeportError as error:
            first = first or error
            branches = branches or isinstance(error, GraphBreakError)
            continue
        if first is not None and (inputs != guesses or not batch):  # else the exporter's own note says it
            notes.append(_fallen_back(guesses, inputs, batch=batch, legacy=legacy, error=first))
        return {
            "inputs": inputs,
            "dynamic_batch": batch,
            "fixed_batch": 1,
            "legacy": legacy,
            "ranges": ranges,
            "notes": [*notes, *found],
        }
    if first is None:
        raise ExportError(asked="try an export", found="no way to try", fix="report this")
    raise first


def _exported(
    module: torch.nn.Module,
    guesses: tuple[Guess, ...],
    state: Mapping[str, str],
    *,
    dynamic_batch: bool,
    legacy: bool,
) -> tuple[list[str], dict[str, list[int]]]:
    """Notes of the export, and ranges of axes without which it did not succeed."""
    axes: dict[str, Mapping[int, str]] = {guess.name: guess.axes for guess in guesses if guess.axes}
    if dynamic_batch:
        axes |= {guess.name: {guess.batch_axis: "batch"} for guess in guesses if guess.kind is Kind.STATE}
    options = ExportOptions(dynamic_batch=dynamic_batch, allow_legacy_exporter=legacy, dynamic_axes=axes, state=state)
    try:
        return _notes_of_export(module, guesses, options), {}
    except DynamicShapeError as error:
        ranges = {name: (int(low or 2), int(high)) for name, low, high in _RANGE.findall(error.fix)}
        if not ranges:
            raise
    bounded = replace(options, axis_ranges=ranges)
    return _notes_of_export(module, guesses, bounded), {name: list(both) for name, both in ranges.items()}


def _notes_of_export(module: torch.nn.Module, guesses: tuple[Guess, ...], options: ExportOptions) -> list[str]:
    from edgeport.exporter.onnx_export import export_onnx

    with tempfile.TemporaryDirectory(prefix="edgeport-init-") as folder:
        feeds = draw(guesses, 2 if options.dynamic_batch else 1)
        return list(export_onnx(module, feeds, output=Path(folder) / "model.onnx", options=options).notes)


def _fallen_back(
    guesses: tuple[Guess, ...], inputs: tuple[Guess, ...], *, batch: bool, legacy: bool, error: EdgeportError
) -> str:
    axes = sorted({name for guess in guesses for name in guess.axes.values()})
    fixed = [*(axes if inputs != guesses else []), *([] if batch else ["batch"])]
    found = error.found.rstrip(".")
    how = ", and the older TorchScript exporter is used" if legacy else ""
    what = f"{', '.join(fixed)} {'is' if len(fixed) == 1 else 'are'} fixed"
    return f"{what[0].upper()}{what[1:]}{how}, since with more freedom it was found {found}."
