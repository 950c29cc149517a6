"""Which range method a backend's plan of a model is best made by, measured in the child that has samples at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgeport.contracts import Arrays, Calibration, Capabilities, OnnxModel, QuantizationPlan, QuantizationRules
from edgeport.errors import EdgeportError

__all__ = ["MEASURED", "MethodFound", "find_method", "find_plan", "measures", "method_for", "methods_from"]

MEASURED = "measured"
"""What a recipe calls the method that is found here."""


@dataclass(frozen=True, kw_only=True)
class MethodFound:
    """The range method for one backend.

    Attributes:
        method: As a recipe names it.
        signal_db: Signal over the noise of integers at the outputs, by method; empty where nothing was measured.

    """

    method: str
    signal_db: Mapping[str, float]

    @property
    def said(self) -> str:
        """In words; empty where nothing was measured."""
        listed = ", ".join(f"{name} {signal:.1f} dB" for name, signal in self.signal_db.items())
        return f"{self.method}, by signal over noise at the outputs on calibration samples ({listed})" if listed else ""


def measures(method: str) -> bool:
    """Whether the method of that name is one to be measured."""
    from edgeport.calibration.ranges import Measured, method_named

    return isinstance(method_named(method), Measured)


def find_method(
    backend: str,
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    calls: list[Arrays],
) -> MethodFound:
    """As `find_plan`, the method alone."""
    return find_plan(backend, model, calibration, rules, calls)[0]


def find_plan(
    backend: str,
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    calls: list[Arrays],
) -> tuple[MethodFound, QuantizationPlan | None]:
    """Makes a plan by each method, runs it on ONNX Runtime, and takes the one with the least noise.

    Where no plan can be made the first method stands, and whoever plans by it is told why.

    Args:
        backend: That the plans are for.
        model: Float.
        calibration: Of this model.
        rules: Of the backend.
        calls: What `edgeport.pipeline.datasets.calibration_samples` takes of the calibration samples.

    Returns:
        The method, and the plan by it; None where none can be made.

    """
    from edgeport.backends.qdq.model_match import check_fits
    from edgeport.backends.qdq.write import quantize_ir
    from edgeport.backends.registry import effective_plan
    from edgeport.calibration.mixed_precision.sensitivity import sqnr_db
    from edgeport.calibration.range_method_search import measure_methods
    from edgeport.calibration.ranges import MEASURED, form_of
    from edgeport.onnx_files import read_ir, write_scratch
    from edgeport.pipeline.datasets.calibration_samples import open_in_steps

    def write(one: OnnxModel, plan: QuantizationPlan, folder: Path) -> Path:
        check_fits(one, plan)
        graph = read_ir(one)
        quantize_ir(graph, effective_plan(backend, one, plan), rules)
        return write_scratch(graph, folder, one.path.name)

    opened = partial(open_in_steps, state=model.state)
    try:
        found = measure_methods(model, calibration, rules, calls, opened, write)
    except EdgeportError:
        return MethodFound(method=form_of(MEASURED[0]), signal_db={}), None
    signal_db = {name: sqnr_db(noise) for name, noise in found.noise.items()}
    return MethodFound(method=form_of(found.chosen), signal_db=signal_db), found.plan


def method_for(methods: Mapping[str, str], capabilities: Capabilities, asked: str) -> str:
    """The range method for a backend's dialect: what was measured, else what was asked for.

    Args:
        methods: By dialect, what was measured.
        capabilities: Of the backend.
        asked: In the recipe.

    """
    return methods.get(capabilities.rules.dialect, asked) if capabilities.rules is not None else asked


def methods_from(facts: Mapping[str, Any]) -> dict[str, MethodFound]:
    """What `calibrating_child.calibrate` returned, by dialect."""
    return {
        dialect: MethodFound(method=one["method"], signal_db=one["signal_db"])
        for dialect, one in facts.get("methods", {}).items()
    }
