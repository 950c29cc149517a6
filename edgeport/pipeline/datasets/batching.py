"""Samples in calls of one size, as models with a fixed batch want them.

The last call is filled up by repeating the last sample, and what comes out for the repeats is dropped: the agent on the
device and a bundle's `run.py` do the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeport.contracts import Array, Arrays, OnnxModel, RunModel
from edgeport.errors import SamplesError
from edgeport.npz import load_npz, save_npz
from edgeport.ragged import SHAPE, per_sample

__all__ = [
    "calls_note",
    "feeds_of",
    "first_batch",
    "require_a_batch",
    "require_samples",
    "run_in_batches",
    "write_first_batch",
]


def first_batch(feeds: Arrays, batch: int, start: int = 0) -> dict[str, Array]:
    """`batch` samples (axis 0) from `start` on; the last one is repeated where there are fewer."""
    return {name: array[np.minimum(np.arange(start, start + batch), len(array) - 1)] for name, array in feeds.items()}


def run_in_batches(run: RunModel, feeds: Arrays, batch: int) -> dict[str, Array]:
    """The outputs for every sample, from calls of exactly `batch`; axis 0 of each output is the batch.

    Raises:
        SamplesError: An output that has not one row for each sample of a call, or an input that has no axis for them.

    """
    count = require_samples(feeds)
    parts = [
        {
            name: per_sample(name, array, batch)[: count - start]
            for name, array in run(first_batch(feeds, batch, start)).items()
        }
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def require_samples(feeds: Arrays) -> int:
    """How many there are.

    Raises:
        SamplesError: None; or an input that has no axis for them; or no input.

    """
    alone = [name for name, array in feeds.items() if np.ndim(array) == 0]
    count = len(next(iter(feeds.values()))) if feeds and not alone else 0
    if count:
        return count
    if alone:
        found = f"input {alone[0]!r} without an axis that counts samples"
    else:
        found = "no samples" if feeds else "a model without inputs"
    raise SamplesError(
        asked="feed the model's inputs",
        found=found,
        fix="let axis 0 of every input be the batch, and give one sample or more",
        details={"problem": "batch"},
    )


def require_a_batch(model: OnnxModel, count: int, asked: str) -> None:
    """Raises where there are too few samples for one whole call of a model with a fixed batch.

    Raises:
        SamplesError: Fewer than the model's batch.

    """
    if model.fixed_batch is not None and count < model.fixed_batch:
        raise SamplesError(
            asked=f"{asked} with {model.path.name}, whose batch is fixed to {model.fixed_batch}",
            found=f"{count} samples",
            fix=f"give {model.fixed_batch} samples or more, or export the model with a free batch",
            details={"problem": "batch", "samples": count, "batch": model.fixed_batch},
        )


def calls_note(model: OnnxModel, count: int) -> str:
    """What a reader must know of calls with several samples; empty where a call takes one."""
    batch = model.fixed_batch
    if batch is None or batch == 1:
        return ""
    left = -count % batch
    filled = f" The last call over {count} samples was filled up with {left} repeats, whose outputs were dropped."
    return f"Every call takes {batch} samples, the model's fixed batch; latencies are per call.{filled if left else ''}"


def write_first_batch(feeds: Path, batch: int, path: Path) -> Path:
    """Writes the first `batch` samples of one `.npz` to another."""
    save_npz(path, first_batch(load_npz(feeds), batch))
    return path


def feeds_of(model: OnnxModel, path: Path) -> dict[str, Array]:
    """Arrays of a `.npz` for the model's inputs, and the shapes of samples where they differ."""
    with np.load(path, allow_pickle=False) as file:
        missing = [spec.name for spec in model.inputs if spec.name not in file.files]
        if missing:
            raise SamplesError(
                asked=f"feed input {missing[0]!r}",
                found=f"samples for {', '.join(file.files)}",
                fix="name the arrays of the samples as the model names its inputs",
            )
        # An array of shapes may stand beside each: see `edgeport.ragged`.
        names = [name for spec in model.inputs for name in (spec.name, f"{spec.name}{SHAPE}") if name in file.files]
        return {name: file[name] for name in sorted(names, key=lambda name: name in model.state.values())}
