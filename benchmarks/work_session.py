"""A session whose work is counted: so many small matrix products, one after the other; none, where nothing is said.

What is left of the time of a session that does nothing is the harness.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat

import numpy as np

_SIDE = 24


def open_session(path: str, settings: Mapping[str, object]) -> Session:  # noqa: ARG001 (as every session module)
    """`settings["products"]`: how many products a call computes."""
    return Session(int(str(settings.get("products", 0))))


class Session:
    """Takes any feeds."""

    def __init__(self, products: int) -> None:
        self._products = products

    def bind(self, feeds: Mapping[str, np.ndarray]) -> Call:
        """A call of so many products."""
        return Work(feeds, self._products) if self._products else Call(feeds)

    def close(self) -> None:
        """Frees nothing."""


class Call:
    """Its outputs are its inputs."""

    def __init__(self, feeds: Mapping[str, np.ndarray]) -> None:
        self._feeds = feeds

    def run(self) -> None:
        """Nothing."""

    def outputs(self) -> dict[str, np.ndarray]:
        """The feeds."""
        return {name: array.copy() for name, array in self._feeds.items()}


class Work(Call):
    """Its time is that of its products."""

    def __init__(self, feeds: Mapping[str, np.ndarray], products: int) -> None:
        super().__init__(feeds)
        self._products = products
        self._left, self._result = _aligned(), _aligned()
        self._left[:] = 0.5

    def run(self) -> None:
        """Multiplies."""
        for _ in repeat(None, self._products):
            np.matmul(self._left, self._left, out=self._result)


def _aligned() -> np.ndarray:
    """float32 [24, 24] at the start of a cache line.

    Where malloc happens to put so small an array makes its product up to half as slow again, for a whole process.
    """
    room = np.empty(4 * _SIDE * _SIDE + 64, dtype=np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + 4 * _SIDE * _SIDE].view(np.float32).reshape(_SIDE, _SIDE)
