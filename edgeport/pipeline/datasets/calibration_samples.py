"""Calibration samples, opened in a child process from what its payload says of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeport.contracts import Arrays, OnnxModel, RunModel, SampleSet, TensorSpec, load_json, to_jsonable
from edgeport.contracts.recipe import Recipe
from edgeport.npz import load_npz, save_npz
from edgeport.pipeline.datasets.layout import Layout
from edgeport.pipeline.datasets.prepare import PreparedSamples
from edgeport.pipeline.datasets.prepare_worker import not_repeatable
from edgeport.pipeline.datasets.preprocessing import Preparation
from edgeport.pipeline.datasets.sources import BATCH, location_from_json, open_samples
from edgeport.ragged import OutputAccumulator, RaggedBatch, run_rows

__all__ = [
    "FEW",
    "MANY",
    "MANY_BYTES",
    "calibration_samples",
    "few_calls",
    "learning_payload",
    "load_few",
    "open_in_steps",
    "samples_payload",
    "stretches",
    "take_few",
]

_READ_VALUES = 1 << 20
"""Read at once for a model that takes a fixed number of samples in a call, and would not see more of them together."""

FEW = 16
"""Samples on which noise is looked at: it is a sum over all values of the outputs, so that few say enough."""
MANY = 128
"""The same where plans are told apart that differ in what they clip: that hurts few samples, and those a lot."""
MANY_BYTES = 32 << 20
"""Of feeds that are held; FEW of them are taken all the same."""
_STEPS = 16
"""Of a model with a state, in each part of a sequence: what a state adds to the noise adds up over some steps."""
_STRETCHES = 4
"""Parts of sequences, for each FEW."""


def calibration_samples(payload: dict[str, Any], model: OnnxModel) -> SampleSet:
    """The samples as the model takes them.

    Args:
        payload: `samples` (a location), `target`, and where wanted `batch_size`, `arrangement`, `preparation`, and the
            `fingerprint` that samples of the user's own code must have.
        model: The ONNX model.

    Raises:
        SamplesError: They can't be read, or the user's code gave other samples before.

    """
    location, preparation = location_from_json(payload["samples"]), Preparation.from_payload(payload)
    raw = open_samples(
        location,
        payload["target"],
        inputs=[spec for spec in preparation.inputs or model.inputs if spec.name not in model.state.values()],
        raw=preparation.raw,
        batch_size=_read_at_once(model, payload.get("batch_size", BATCH)),
        arrangement=payload.get("arrangement"),
    )
    samples = preparation.prepared(raw)
    functions = "function" in payload["samples"] or preparation.runs_functions
    if payload.get("fingerprint") and functions and samples.fingerprint != payload["fingerprint"]:
        raise not_repeatable(location.location)
    return samples


def _read_at_once(model: OnnxModel, wanted: int) -> int:
    if model.fixed_batch is None:
        return wanted
    row = sum(math.prod(axis for axis in spec.shape[1:] if isinstance(axis, int)) for spec in model.fed)
    return max(1, min(wanted, _READ_VALUES // max(row, 1)))


def learning_payload(recipe: Recipe, samples: PreparedSamples) -> dict[str, Any]:
    """As `samples_payload`, of what is learned from."""
    from edgeport.contracts import to_jsonable

    own = {"samples": to_jsonable(recipe.data.learned_from), "fingerprint": samples.learned_from[0]}
    return {**samples_payload(recipe, samples), **own}


def samples_payload(recipe: Recipe, samples: PreparedSamples) -> dict[str, Any]:
    """What `calibration_samples` is told of a recipe's calibration samples."""
    from edgeport.pipeline.datasets.prepare import arrangement_of, inputs_of_onnx
    from edgeport.pipeline.datasets.preprocessing import Preparation

    return {
        "samples": to_jsonable(recipe.data.calibration),
        "fingerprint": samples.calibration_fingerprint,
        "target": recipe.data.target,
        "arrangement": arrangement_of(recipe, inputs_of_onnx(recipe)),
        **Preparation.of(recipe).as_payload(),
    }


def take_few(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes what `few_calls` takes of the samples: `0.npz`, `1.npz`, ...

    Args:
        payload: `model` (OnnxModel), `folder`, and what `few_calls` takes.

    """
    model = load_json(OnnxModel, json.dumps(payload["model"]))
    count = 0
    for call in few_calls(model, payload):
        save_npz(Path(payload["folder"]) / f"{count}.npz", call)
        count += 1
    return {"calls": count}


def load_few(folder: Path) -> list[dict[str, Any]]:
    """What `take_few` wrote, in its order."""
    return [load_npz(file) for file in sorted(folder.glob("*.npz"), key=lambda file: int(file.stem))]


def few_calls(model: OnnxModel, payload: Mapping[str, Any], most: int = FEW) -> Iterator[Arrays]:
    """Some calibration samples, from the whole length of the set, as calls of the model.

    Of a model with a state each is a stretch of steps that follow each other, as `edgeport.ragged.RaggedBatch` has
    them, with the state that the float model has where it begins.

    Args:
        model: Float.
        payload: What `calibration_samples` takes, and of a model with a state `states` (its inputs) and `initial` (what
            fills them).
        most: Samples, at most; fewer, but FEW, where they are large.

    """
    from edgeport.calibration.data import rebatch
    from edgeport.pipeline.datasets.calibration_samples import calibration_samples

    samples = calibration_samples(dict(payload), model)
    if model.state:
        states = tuple(load_json(TensorSpec, json.dumps(spec)) for spec in payload["states"])
        begins = Layout(states=states, initial=payload["initial"]).begins()
        yield from _stretches_of(model, samples, begins, max(_STRETCHES, most // _STEPS))
        return
    size = model.fixed_batch or 1
    samples = rebatch(samples, size, fill_up=model.fixed_batch is not None)
    calls = max(1, len(samples) // size)
    held = sum(array.nbytes for array in next(iter(samples)).feeds.values())
    wanted = max(1, min(calls, most // size, max(FEW // size, MANY_BYTES // max(held, 1))))
    chosen = {index * calls // wanted for index in range(wanted)}
    for index, sample in enumerate(samples):
        if index in chosen:
            yield {name: array.copy() for name, array in sample.feeds.items()}  # a view would hold its whole batch
        if index >= max(chosen):
            break


def _stretches_of(model: OnnxModel, samples: SampleSet, initial: Arrays, parts: int) -> Iterator[Arrays]:
    """Runs the float model over the samples, as far as is needed."""
    from edgeport.backends.onnxruntime.reference import open_reference
    from edgeport.calibration.data import rebatch

    steps = rebatch(samples, 1)
    first = [bool(step.first is not None and step.first[0]) for step in steps]
    ends = stretches(first, parts)
    last = max(ends.values(), default=0)
    held, taken, begun = dict(initial), OutputAccumulator(), dict(initial)
    with open_reference(model.path) as run:
        for index, step in enumerate(steps):
            if first[index]:
                held = dict(initial)
            if index in ends:
                taken, begun = OutputAccumulator(), dict(held)
            outputs = run({**step.feeds, **held})
            held = {into: outputs[out] for out, into in model.state.items()}
            taken.add(step.feeds)
            if index + 1 in ends.values():
                yield {**taken.arrays(), **begun}
            if index + 1 == last:
                break


def stretches(first: Sequence[bool], parts: int = _STRETCHES) -> dict[int, int]:
    """Where stretches of steps begin and end, spread over the whole length of the set, none over a new sequence.

    Args:
        first: Of each step, whether a sequence begins at it.
        parts: Stretches, at most.

    Returns:
        First step to the one behind the last; none overlaps the next.

    """
    found: dict[int, int] = {}
    count, behind = len(first), 0
    for part in range(min(parts, count)):
        begin = max(behind, part * count // parts)
        end = begin + 1
        while end < min(begin + _STEPS, count) and not first[end]:
            end += 1
        if begin < count:
            found[begin] = behind = end
    return found


@contextmanager
def open_in_steps(path: Path, state: Mapping[str, str]) -> Iterator[RunModel]:
    """A float or Q/DQ model on ONNX Runtime that takes what `few_calls` gives: with a state it is run step by step."""
    from edgeport.backends.onnxruntime.reference import open_reference

    with open_reference(path) as run:
        if not state:
            yield run
        else:
            inputs = tuple(state.values())
            yield lambda feeds: run_rows(run, RaggedBatch.of(feeds, inputs), batch=1, state=state, starts=(0,))
