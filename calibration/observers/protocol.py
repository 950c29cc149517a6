"""What an observer must offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgeport.contracts import Array

__all__ = ["Observer"]


class Observer(Protocol):
    """Watches one tensor and keeps a state whose size does not depend on how much it saw.

    The state must not depend on how the samples were cut into arrays or in which order they came, bit for bit:
    then `merge` is associative and commutative, and a calibration is the same on one machine and on ten.
    """

    def update(self, array: Array) -> None:
        """Takes in one array, a sample per index of axis 0; a float dtype; it may hold NaN and Inf and is not kept."""
        ...

    def state(self) -> dict[str, Array]:
        """Arrays by field name: all there is to know, and what `Calibration` stores."""
        ...

    @classmethod
    def merge(cls, states: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """The state of one observer that had seen everything that these had; at least one state."""
        ...
