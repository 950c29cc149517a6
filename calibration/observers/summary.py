"""What observers need of a tensor that a runtime can find by itself, so that the tensor need not leave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgeport.calibration.observers.protocol import Observer

__all__ = ["Summary", "SummaryObserver", "joined"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of a tensor in one call or several; all of its values are finite, and there is at least one per sample.

    Attributes:
        lowest: Of each sample, float32 [samples].
        highest: Of each sample, float32 [samples].
        values: How many there are, in all samples together.
        counted: Those that `Histogram` counts, float32 [n]; None where no observer asks for them.

    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    values: int
    counted: NDArray[np.float32] | None = None


def joined(summaries: Sequence[Summary]) -> Summary:
    """Of several calls, as if they had been one."""
    if len(summaries) == 1:
        return summaries[0]
    counted = [one.counted for one in summaries if one.counted is not None]
    return Summary(
        lowest=np.concatenate([one.lowest for one in summaries]),
        highest=np.concatenate([one.highest for one in summaries]),
        values=sum(one.values for one in summaries),
        counted=np.concatenate(counted) if counted else None,
    )


@runtime_checkable
class SummaryObserver(Observer, Protocol):
    """An observer that a summary is enough for; its state is then what `update` would have made it."""

    needs_counted: bool
    """Whether it reads `Summary.counted`."""

    def update_by(self, summary: Summary) -> None:
        """Takes in one tensor."""
        ...
