"""The plan of a payload, as `children.build` takes it: what the backend offers, by what ranges, in which precision."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport import hardware
from edgeport.contracts import (
    Calibration,
    Capabilities,
    Mix,
    NodeChoice,
    OnnxModel,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    load_json,
)
from edgeport.errors import ContractError, PlanError, UnsupportedByBackend, UsageError

if TYPE_CHECKING:
    from edgeport.calibration.ranges import RangeMethod

__all__ = ["measured_method", "mix_named", "plan_for", "plan_for_processor", "precision_named", "require_offered"]


def plan_for_processor(payload: dict[str, Any]) -> None:
    """What this process plans and compiles is for `payload["processor"]`, where there is one."""
    if payload.get("processor") is not None:
        hardware.assume(payload["processor"]["machine"], payload["processor"]["isa"])


def measured_method(
    model: OnnxModel, backend: Any, payload: dict[str, Any], calibration: Calibration | None
) -> tuple[str | None, QuantizationPlan | None]:
    """The range method of a payload: as it stands there, or measured on the samples of `measuring`, with its plan."""
    from edgeport.pipeline.datasets.calibration_samples import MANY, few_calls
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


def mix_named(nodes: Mapping[str, str], rest: str) -> Mix:
    """The mix of these choices.

    Args:
        nodes: Node, pattern, module or operator type to the name of a precision, in the order in which they count.
        rest: Name of a float precision.

    Raises:
        UsageError: No such precision, or one of integers as the rest.

    """
    choices = tuple(
        NodeChoice(what=what, precision=precision_named(f"run {what!r} in {name!r}", name))
        for what, name in nodes.items()
    )
    named = precision_named(f"run in {rest!r} what is not integer", rest)
    try:
        return Mix(rest=named, nodes=choices)
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error


def precision_named(asked: str, name: str) -> Precision:
    """The precision of that name.

    Raises:
        UsageError: There is none; `asked` says what for.

    """
    known = [str(one) for one in Precision]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            asked=asked,
            found=f"precisions {', '.join(known)}",
            fix=f"did you mean {near[0]!r}?" if near else "choose one of them",
        )
    return Precision(name)
