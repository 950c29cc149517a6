"""The plan of a payload, as `children.build` takes it: what the backend offers, by what ranges, in which precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport import hardware
from edgeport.contracts import (
    Calibration,
    Capabilities,
    Mix,
    OnnxModel,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    load_json,
)
from edgeport.errors import PlanError, UnsupportedByBackend, UsageError

if TYPE_CHECKING:
    from edgeport.calibration.ranges import RangeMethod

__all__ = ["measured_method", "plan_for", "plan_for_processor", "require_offered"]


def plan_for_processor(payload: dict[str, Any]) -> None:
    """What this process plans and compiles is for `payload["processor"]`, where there is one."""
    if payload.get("processor") is not None:
        hardware.assume(payload["processor"]["machine"], payload["processor"]["isa"])


def measured_method(
    model: OnnxModel, backend: Any, payload: dict[str, Any], calibration: Calibration | None
) -> tuple[str | None, QuantizationPlan | None]:
    """The range method of a payload: as it stands there, or measured on the samples of `measuring`, with its plan."""
    from edgeport.pipeline.datasets.few import MANY, few_calls
    from edgeport.pipeline.quantization.range_search import find_plan, measures

    method: str | None = payload.get("method")
    if method is None or not measures(method) or not payload.get("measuring") or calibration is None:
        return method, None
    rules = backend.capabilities().rules
    if Precision(payload["precision"]) is Precision.FP8 or rules is None:
        return method, None
    calls = list(few_calls(model, payload["measuring"], MANY))
    found, plan = find_plan(payload["backend"], model, calibration, rules, calls)
    return found.method, plan


def require_offered(backend: Any, payload: dict[str, Any]) -> Capabilities:
    """What the backend can do here, `payload["precision"]` among it.

    Raises:
        UnsupportedByBackend: It has no such precision, or no rules for integers.

    """
    precision = Precision(payload["precision"])
    capabilities: Capabilities = backend.capabilities()
    support = capabilities.precisions.get(precision)
    asked = f"compile {precision} for {payload['backend']}"
    if support is None or not support.available:
        raise UnsupportedByBackend(
            asked=asked,
            found=support.reason if support is not None and support.reason else f"no {precision} in this backend",
            fix="leave this precision out for this target",
        )
    if capabilities.rules is None and not precision.is_float:
        raise UnsupportedByBackend(
            asked=asked, found="a backend without quantization rules", fix="ask it for float precisions only"
        )
    return capabilities


def plan_for(
    model: OnnxModel,
    backend: Any,
    payload: dict[str, Any],
    calibration: Calibration | None = None,
    *,
    measured: QuantizationPlan | None = None,
) -> QuantizationPlan:
    """The plan that gives `payload["precision"]` on this backend, from statistics at hand or the payload's file.

    Args:
        model: Float.
        backend: That it is for.
        payload: Of `build`.
        calibration: Of this model.
        measured: The plan by the payload's method, for int8 in all nodes, where it was made to measure that method.

    Raises:
        UnsupportedByBackend: The backend has no such precision here.
        UsageError: A static integer plan was asked without a calibration.

    """
    from edgeport.calibration.mixed_plan import mixed_plan
    from edgeport.calibration.plan import dynamic_plan, float_plan
    from edgeport.calibration.ranges import MEASURED, Measured, method_named
    from edgeport.calibration.weight_plan import weight_plan

    precision = Precision(payload["precision"])
    rules = require_offered(backend, payload).rules
    mix = load_json(Mix, json.dumps(payload["mix"])) if payload.get("mix") else Mix()
    if precision.is_float:
        if not mix.is_plain:
            raise PlanError(
                asked=f"run single nodes otherwise in a model that runs in {precision}",
                found="a float precision for the whole model",
                fix="take an integer precision, such as int8-weights; nodes that are not integer run in `rest`",
            )
        return float_plan(model, precision)
    if rules is None:
        raise TypeError(payload["backend"])  # require_offered has refused it
    if calibration is None and payload["calibration"]:
        calibration = Calibration.load(Path(payload["calibration"]))
    method = method_named(payload["method"])
    if isinstance(method, Measured):
        method = MEASURED[0]  # nobody had samples to measure with
    if not mix.is_plain:
        return mixed_plan(model, rules, precision, mix, calibration, method)
    if precision is Precision.INT8_DYNAMIC:
        return dynamic_plan(model, rules)
    if precision.weight_form is not None:
        return weight_plan(model, rules, precision)
    if calibration is None:
        raise UsageError(
            asked=f"quantize {model.path.name} to static {precision}",
            found="no calibration (--calibration) and no samples (--samples)",
            fix="give samples, or what edgeport calibrate made of them; precisions int8-dynamic and int8-weights "
            "need none",
        )
    return measured or _static_plan(model, calibration, rules, precision, method)


def _static_plan(
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    precision: Precision,
    method: RangeMethod,
) -> QuantizationPlan:
    from edgeport.calibration.plan import float8_plan, make_plan

    if precision is Precision.FP8:
        return float8_plan(model, calibration, rules)
    return make_plan(model, calibration, rules, method)
