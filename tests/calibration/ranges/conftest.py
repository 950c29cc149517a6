"""Statistics of arrays, as observers leave them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeport.calibration.observers import OBSERVERS
from edgeport.contracts import Array, TensorStatistics


def _statistics(array: Array) -> dict[str, dict[str, Array]]:
    observers = {name: observer() for name, observer in OBSERVERS.items()}
    for observer in observers.values():
        observer.update(np.asarray(array, np.float32))
    return {name: observer.state() for name, observer in observers.items()}


@pytest.fixture(scope="session")
def statistics() -> Callable[[Array], TensorStatistics]:
    """`statistics(array)`: what every observer keeps of it; a sample per index of axis 0."""
    return _statistics
