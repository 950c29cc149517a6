"""Small networks with numbers in them: nothing is trained here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeport.exporter.prune.samples import Samples


@pytest.fixture
def images() -> Samples:
    random = np.random.default_rng(0)
    return Samples(
        feeds={"x": random.normal(size=(6, 3, 8, 8)).astype(np.float32)}, target=random.integers(0, 5, 6), batch=4
    )


@pytest.fixture
def net(filled: Callable[[Any], Any]) -> Any:
    """Two convolutions with norms, one Linear; [N, 3, 8, 8] to [N, 5]."""
    return filled(small_net())


def small_net() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
