"""Whether a plan fits a model, before anything is written from it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from edgeport.calibration.graph import constant_of
from edgeport.contracts import OnnxModel, QuantizationPlan
from edgeport.errors import PlanError
from edgeport.onnx_files import read_ir

__all__ = ["check_plan"]


def check_plan(plan: QuantizationPlan, model: OnnxModel) -> None:
    """Raises where the plan does not fit the model; what a dialect can write, its writer checks.

    Raises:
        PlanError: A plan for another model, or with nodes, tensors or weights that the model does not have.

    """
    asked = f"use a plan for {plan.dialect} with {model.path.name}"
    if plan.model_digest != model.digest:
        raise PlanError(
            asked=asked,
            found=f"a plan for digest {plan.model_digest[:12]}, a model with digest {model.digest[:12]}",
            fix="plan this very model again; a plan fits no other",
        )
    graph = read_ir(model).graph
    tensors = {value.name or "": value for value in (*graph.inputs, *graph.initializers.values())}
    tensors |= {value.name or "": value for node in graph for value in node.outputs}
    _require(asked, "node", plan.nodes, [node.name or "" for node in graph])
    _require(asked, "tensor", plan.activations, tensors)
    _require(asked, "weight", plan.weights, list(graph.initializers))
    for name, weight in plan.weights.items():
        array = constant_of(tensors[name])
        if array is None:
            raise PlanError(
                asked=asked,
                found=f"weight {name!r}, which the caller of the model can override",
                fix="export the model with constant weights, and plan again",
            )
        if weight.axis is not None and not 0 <= weight.axis < array.ndim:
            raise PlanError(
                asked=asked,
                found=f"one scale per index of axis {weight.axis} for weight {name!r} of shape {list(array.shape)}",
                fix="plan this model again",
            )


def _require(asked: str, what: str, names: Iterable[str], known: Collection[str]) -> None:
    missing = sorted(set(names) - set(known))
    if missing:
        near = difflib.get_close_matches(missing[0], [name for name in known if name], n=1)
        raise PlanError(
            asked=asked,
            found=f"{what} {missing[0]!r}, which the model does not have" + (f" (it has {near[0]!r})" if near else ""),
            fix="plan this model again",
            details={"missing": missing},
        )
