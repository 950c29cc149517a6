"""Which samples come when: a pure function of seed, epoch and step, so that a resumed training needs no other state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from edgeport.contracts import Array
from edgeport.errors import SamplesError
from edgeport.exporter.train.task import Batch

__all__ = ["ArrayBatches", "Sampler"]


class Sampler:
    """The rows of each step.

    Args:
        samples: How many there are.
        batch_size: Of all processes together; a multiple of `processes`.
        seed: Of the order.
        rank, processes: Each process gets a part of every batch of its own.

    Raises:
        SamplesError: Fewer samples than a batch, or a batch that the processes can't share evenly.

    """

    def __init__(self, samples: int, batch_size: int, seed: int, *, rank: int = 0, processes: int = 1) -> None:
        if samples < batch_size or batch_size % processes:
            raise SamplesError(
                asked=f"train in batches of {batch_size} over {processes} processes",
                found=f"{samples} samples",
                fix="give a batch size that is no larger than the samples, and a multiple of the processes",
            )
        self.steps_per_epoch = samples // batch_size
        self._samples, self._batch, self._seed = samples, batch_size, seed
        self._part = slice(rank, None, processes)
        self._epoch, self._rows = -1, np.zeros(0, dtype=np.int64)

    def rows(self, step: int) -> list[int]:
        """Of step `step`, counted from 0 over all epochs."""
        epoch, inside = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._rows = np.random.default_rng((self._seed, epoch)).permutation(self._samples)
            self._epoch = epoch
        found: list[int] = self._rows[inside * self._batch : (inside + 1) * self._batch][self._part].tolist()
        return found


class ArrayBatches:
    """Batches of arrays, which may lie in files.

    Args:
        arrays: By name, axis 0 counts the samples.
        chosen: Indices of the samples that are meant; None for all.

    """

    def __init__(self, arrays: Mapping[str, Array], chosen: Array | None = None) -> None:
        sizes = {name: len(array) for name, array in arrays.items()}
        if not sizes or len(set(sizes.values())) != 1:
            raise SamplesError(
                asked="train on arrays", found=f"lengths {sizes}", fix="give as many samples in each of them"
            )
        self._arrays, self._chosen = arrays, chosen

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values()))) if self._chosen is None else len(self._chosen)

    def batch(self, rows: list[int]) -> Batch:
        """These rows of each array."""
        chosen = rows if self._chosen is None else self._chosen[rows]
        return {name: torch.from_numpy(np.ascontiguousarray(array[chosen])) for name, array in self._arrays.items()}
