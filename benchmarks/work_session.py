"""A session whose work is counted: so many small matrix products, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat

import numpy as np

_SIDE = 24


def open_session(path: str, settings: Mapping[str, object]) -> Session:  # noqa: ARG001 (as every session module)
    """`settings["products"]`: how many products a call computes."""
    return Session(int(str(settings["products"])))


class Session:
    """Takes any feeds."""

    def __init__(self, products: int) -> None:
        self._products = products

    def bind(self, feeds: Mapping[str, np.ndarray]) -> Call:
        """A call of so many products."""
        return Call(feeds, self._products)

    def close(self) -> None:
        """Frees nothing."""


class Call:
    """Its outputs are its inputs; its time is that of its products."""

    def __init__(self, feeds: Mapping[str, np.ndarray], products: int) -> None:
        self._feeds = feeds
        self._products = products
        self._left = np.full((_SIDE, _SIDE), 0.5, dtype=np.float32)
        self._result = np.empty_like(self._left)

    def run(self) -> None:
        """Multiplies."""
        for _ in repeat(None, self._products):
            np.matmul(self._left, self._left, out=self._result)

    def outputs(self) -> dict[str, np.ndarray]:
        """The feeds."""
        return {name: array.copy() for name, array in self._feeds.items()}
