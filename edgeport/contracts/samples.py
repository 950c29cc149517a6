"""Sample data as every part of Edgeport sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeport.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = Any  # a command that leaves all work to a child makes no arrays, and does without NumPy

__all__ = ["Array", "Arrays", "OpenModel", "RunModel", "Sample", "SampleSet"]

Arrays = Mapping[str, Array]

RunModel = Callable[[Arrays], dict[str, Array]]
"""Feeds (arrays by input name) to outputs (arrays by output name)."""

OpenModel = Callable[[Path], AbstractContextManager[RunModel]]
"""Opens an ONNX file with some runtime; handed to whoever may not import a runtime."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One batch.

    Attributes:
        feeds: Arrays by input name; axis 0 is the batch, of equal length in all of them.
        target: What the metric compares with, axis 0 of the same length; None where there are no labels.
        first: bool, axis 0 of the same length: the samples at which a sequence begins; None where samples are not the
            steps of sequences.

    """

    feeds: Arrays
    target: Array | None = None
    first: Array | None = None

    def __post_init__(self) -> None:
        import numpy as np

        sizes = {name: int(np.shape(array)[0]) if np.ndim(array) else 1 for name, array in self.feeds.items()}
        if self.target is not None:
            sizes["target"] = len(self.target)
        if self.first is not None:
            sizes["first"] = len(self.first)
        if not self.feeds or len(set(sizes.values())) != 1:
            raise ContractError(
                asked="make a batch of samples",
                found=f"lengths {sizes}" if sizes else "no arrays",
                fix="give at least one input, and the same number of samples in each",
            )

    def __len__(self) -> int:
        import numpy as np

        first = next(iter(self.feeds.values()))
        return int(np.shape(first)[0]) if np.ndim(first) else 1


class SampleSet(Protocol):
    """A stream of batches that can be walked again and again, always the same."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, over every sample; equal sets have equal fingerprints."""
        ...

    def digests(self) -> frozenset[str]:
        """One digest per sample's feeds; two sets overlap where these do."""
        ...

    def __iter__(self) -> Iterator[Sample]: ...

    def __len__(self) -> int:
        """Number of samples (not of batches)."""
        ...
