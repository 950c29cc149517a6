"""Fits a model to a plan, by the methods that are asked for, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeport.calibration.recovery.bias_correction import correct_biases
from edgeport.calibration.recovery.context import RecoveryContext
from edgeport.calibration.recovery.methods import BiasCorrection, Recovery, Rounding
from edgeport.calibration.recovery.model_edit import RecoveryResult
from edgeport.calibration.recovery.rounding import round_weights
from edgeport.contracts import OnnxModel, QuantizationPlan

__all__ = ["refine"]


def _biases(
    method: BiasCorrection, model: OnnxModel, plan: QuantizationPlan, bench: RecoveryContext, to: Path
) -> RecoveryResult:
    del method
    return correct_biases(model, plan, bench, to)


def _rounded(
    method: Rounding, model: OnnxModel, plan: QuantizationPlan, bench: RecoveryContext, to: Path
) -> RecoveryResult:
    return round_weights(model, plan, bench, to, steps=method.steps)


_APPLIED: Mapping[type, Callable[[Any, OnnxModel, QuantizationPlan, RecoveryContext, Path], RecoveryResult]] = {
    Rounding: _rounded,
    BiasCorrection: _biases,
}


def refine(
    model: OnnxModel, plan: QuantizationPlan, methods: Sequence[Recovery], bench: RecoveryContext, folder: Path
) -> tuple[OnnxModel, QuantizationPlan]:
    """The model with constants that suit the plan, and the plan for that model.

    Args:
        model: Float; the plan is for it.
        plan: Static int8; its ranges stay as they are.
        methods: In the order in which they are applied; see `methods.recoveries_named`.
        bench: Its reference is what the outputs are to come near to.
        folder: Gets one file per method.

    Raises:
        CalibrationError: A method finds nothing to do.

    """
    for index, method in enumerate(methods):
        done = _APPLIED[type(method)](method, model, plan, bench, folder / f"recovered{index}.onnx")
        model = replace(done.model, state=model.state)
        plan = replace(plan, model_digest=model.digest, recovered_by=(*plan.recovered_by, done.said))
    return model, plan
