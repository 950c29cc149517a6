"""A workbench with ONNX Runtime and the real dialect's writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeport.backends.qdq.write import write_plan
from edgeport.calibration.collect import collect
from edgeport.calibration.data import ArraySamples
from edgeport.calibration.plan import make_plan
from edgeport.calibration.recovery.context import RecoveryContext, batches_of
from edgeport.contracts import Array, OnnxModel, OpenModel, QuantizationPlan, QuantizationRules


class Lab:
    """Quantizes small models with input x, as the dialect's writer does, and runs them."""

    def __init__(self, open_model: OpenModel, folder: Path) -> None:
        self.open_model = open_model
        self.folder = folder

    def plan(self, model: OnnxModel, x: Array, rules: QuantizationRules) -> QuantizationPlan:
        """A static plan, calibrated with x."""
        return make_plan(model, collect(model, ArraySamples({"x": x}), self.open_model), rules)

    def bench(self, model: OnnxModel, x: Array, rules: QuantizationRules) -> RecoveryContext:
        """With x as its samples."""
        return RecoveryContext(
            reference=model,
            batches=batches_of(model, ArraySamples({"x": x}), self.open_model),
            open_model=self.open_model,
            write=lambda one, plan, path: write_plan(one, plan, rules, path),
        )

    def run(self, model: OnnxModel, x: Array) -> Array:
        """The first output."""
        with self.open_model(model.path) as call:
            return next(iter(call({"x": x}).values()))

    def run_quantized(self, model: OnnxModel, plan: QuantizationPlan, rules: QuantizationRules, x: Array) -> Array:
        """The first output of what the plan makes of it."""
        return self.run(write_plan(model, plan, rules, self.folder / f"quantized{model.digest[:8]}.onnx"), x)


@pytest.fixture
def lab(open_model: OpenModel, tmp_path: Path) -> Lab:
    """See `Lab`."""
    return Lab(open_model, tmp_path)


def _decibels(true: Array, other: Array) -> float:
    return float(10 * np.log10((true.astype(np.float64) ** 2).sum() / ((true - other).astype(np.float64) ** 2).sum()))


@pytest.fixture(scope="session")
def decibels() -> Callable[[Array, Array], float]:
    """`decibels(true, other)`: signal over noise."""
    return _decibels
