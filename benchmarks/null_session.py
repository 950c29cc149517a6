"""A session that does nothing: what is left of its time is the harness."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def open_session(path: str, settings: Mapping[str, object]) -> Session:  # noqa: ARG001 (as every session module)
    """Opens nothing."""
    return Session()


class Session:
    """Takes any feeds."""

    def bind(self, feeds: Mapping[str, np.ndarray]) -> Call:
        """The call that does nothing."""
        return Call(feeds)

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
