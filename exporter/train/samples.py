"""What is learned from, and the part of it that says which weights are best."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeport.contracts import Array, Arrays
from edgeport.errors import SamplesError
from edgeport.exporter.train.sampler import ArrayBatches

__all__ = ["INDEX", "LABELS", "LearningSamples", "open_samples", "parted"]

LABELS = "labels/"
"""Name of the labels among the arrays of a batch; no feed is called so."""


@dataclass(frozen=True, kw_only=True)
class LearningSamples:
    """What is learned from.

    Attributes:
        feeds: Arrays by input name, axis 0 counts samples; they may lie in files.
        labels: Of the same length; None where there are none.

    """

    feeds: Arrays
    labels: Array | None = None

    def __post_init__(self) -> None:
        arrays = {**self.feeds, **({} if self.labels is None else {"labels": self.labels})}
        wrong = [] if self.feeds else ["no inputs"]
        wrong += [f"{name}: {_said(one)}" for name, one in arrays.items() if not _is_learnable(one)]
        if wrong:
            raise SamplesError(
                asked="learn from samples",
                found=", ".join(wrong),
                fix="give numpy's arrays of numbers with a row for each sample; what is one for all is a constant of "
                "the network",
            )


def _is_learnable(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.ndim > 0 and array.dtype.kind in "biuf"


def _said(array: object) -> str:
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"


INDEX = "index.json"
"""Of a folder of samples: the inputs' names in the order of their files (`0.npy`, ...); labels are `labels.npy`."""


def open_samples(folder: Path) -> LearningSamples:
    """What lies in a folder, of which only those rows are read that are needed."""
    names = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    feeds = {
        name: np.load(folder / f"{number}.npy", mmap_mode="r", allow_pickle=False) for number, name in enumerate(names)
    }
    labels = folder / "labels.npy"
    kept = np.load(labels, mmap_mode="r", allow_pickle=False) if labels.is_file() else None
    return LearningSamples(feeds=feeds, labels=kept)


def parted(samples: LearningSamples, held_out: float, batch_size: int, seed: int) -> tuple[ArrayBatches, ArrayBatches]:
    """Those that are trained on, and those that say which weights are best.

    Args:
        samples: All of them.
        held_out: Share of the second part, drawn at random.
        batch_size: That the first part must fill once.
        seed: Of the draw.

    Raises:
        SamplesError: Too few.

    """
    arrays = dict(samples.feeds) | ({} if samples.labels is None else {LABELS: samples.labels})
    count = len(next(iter(samples.feeds.values())))
    held = max(1, round(held_out * count))
    if count - held < batch_size:
        raise SamplesError(
            asked=f"train in batches of {batch_size}",
            found=f"{count} samples, {held} of which are held out",
            fix="give more samples, or a smaller batch",
        )
    order = np.random.default_rng(seed).permutation(count)
    return ArrayBatches(arrays, order[held:]), ArrayBatches(arrays, np.sort(order[:held]))
