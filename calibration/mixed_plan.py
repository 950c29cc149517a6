"""Plans in which single nodes, or groups of them, have a precision of their own.

Each integer precision plans its own nodes, as if all others were excluded, and the parts are put together.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable

import onnx_ir as ir

from edgeport.calibration.graph import float_graph
from edgeport.calibration.plan import dynamic_plan, float8_plan, make_plan
from edgeport.calibration.ranges import RangeMethod
from edgeport.calibration.weight_plan import weight_plan
from edgeport.contracts import (
    Calibration,
    Mix,
    NodeChoice,
    OnnxModel,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    WeightQuantization,
)
from edgeport.errors import PlanError
from edgeport.onnx_files import node_module

__all__ = ["chosen_precisions", "mixed_plan", "nodes_meant"]

_SWISH = ("Sigmoid", "Mul")
"""What "Swish" stands for among what is folded."""


def mixed_plan(
    model: OnnxModel,
    rules: QuantizationRules,
    precision: Precision,
    mix: Mix,
    calibration: Calibration | None = None,
    method: RangeMethod | None = None,
) -> QuantizationPlan:
    """A plan with one integer precision, but for the nodes that `mix` gives another.

    Nodes that are kept in a float precision are named in it too, so that a placement can tell whether they were.

    Args:
        model: A float model.
        rules: Of the dialect.
        precision: Of all nodes that `mix` does not name, as far as they can have it.
        mix: The choices.
        calibration: Of this very model; needed where a part is static.
        method: How ranges are taken from it; min-max where none is given.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        CalibrationError: The statistics are of another model.
        PlanError: A choice names nothing, or nodes that can't run so; a static part without calibration; one weight
            in two forms; nothing to quantize.

    """
    graph = float_graph(model)
    chosen = chosen_precisions(graph, mix.nodes)
    wanted = dict.fromkeys((precision, *(one for one in chosen.values() if not one.is_float)))
    _refuse_ranges(wanted)
    parts = []
    for part in wanted:
        only = {str(node.name) for node in graph if chosen.get(node, precision) is part}
        only |= _folded_behind(graph, rules, only, chosen) if part is Precision.INT8 else set()
        names = [node.name for node, one in chosen.items() if one is part]
        if part is precision and not only:
            continue
        try:
            parts.append(_part(model, rules, part, only, calibration, method))
        except PlanError as error:
            if part is precision and chosen and any(not one.is_float for one in chosen.values()):
                continue  # what is left may be float alone
            if part is precision or part.needs_ranges:
                raise
            raise _cannot(rules, part, names, graph) from error
    planned = {name: at for part in parts for name, at in part.nodes.items()}
    _require_chosen(graph, rules, mix.nodes, chosen, planned)
    floats = {str(node.name): one for node, one in chosen.items() if one.is_float and node.name}
    return QuantizationPlan(
        dialect=rules.dialect,
        model_digest=model.digest,
        default=mix.rest,
        nodes=planned | floats,
        activations={name: spec for part in parts for name, spec in part.activations.items()},
        weights=_weights(parts),
        found_by=_told(parts, mix),
        data_free=any(part.data_free for part in parts),
    )


def _refuse_ranges(wanted: Collection[Precision]) -> None:
    """A tensor between an int8 node and one of fp8 would need two forms; that of int16 nobody has."""
    if Precision.INT16 in wanted:
        raise PlanError(
            asked=f"run nodes in {Precision.INT16}",
            found="that no dialect has activations of 16 bits",
            fix="choose int8 for them, or keep them in float",
        )
    static = [one for one in wanted if one.needs_ranges]
    if len(static) > 1:
        raise PlanError(
            asked=f"run nodes in {' and others in '.join(static)}",
            found="that what stands between two nodes has one range and one type",
            fix=f"choose {static[0]} or {static[1]}, and a float for the others",
        )


def chosen_precisions(graph: ir.Graph, choices: Iterable[NodeChoice]) -> dict[ir.Node, Precision]:
    """The nodes that are named, each with the last precision that was chosen for it.

    Raises:
        PlanError: A choice that names nothing; the nearest name is told.

    """
    chosen: dict[ir.Node, Precision] = {}
    for choice in choices:
        nodes = nodes_meant(graph, choice.what)
        if not nodes:
            known = sorted({name for node in graph for name in _names(node)})
            near = difflib.get_close_matches(choice.what, known, n=3)
            raise PlanError(
                asked=f"run {choice.what!r} in {choice.precision}",
                found="no node, module or operator type of this name, and none that fits it as a pattern",
                fix=f"did you mean {' or '.join(map(repr, near))}?" if near else "name one that the model has",
                details={"near": near},
            )
        chosen.update(dict.fromkeys(nodes, choice.precision))
    return chosen


def nodes_meant(graph: ir.Graph, what: str) -> list[ir.Node]:
    """The nodes that a choice of this name, pattern, module or operator type is for."""
    return [node for node in graph if _fits(node, what)]


def _folded_behind(
    graph: ir.Graph, rules: QuantizationRules, only: set[str], chosen: dict[ir.Node, Precision]
) -> set[str]:
    """Activations and sums right behind those nodes that nobody chose: a runtime computes them together."""
    found: set[str] = set()
    for node in graph:
        if node.name not in only and node.name not in found:
            continue
        folds = rules.fused.get(node.op_type, ())
        folds = (*folds, *(_SWISH if "Swish" in folds else ()), *(("Add",) if "Bias" in folds else ()))
        readers = [use.node for value in node.outputs for use in value.uses()]
        found |= {str(after.name) for after in readers if after not in chosen and after.op_type in folds}
    return found


def _names(node: ir.Node) -> list[str]:
    """What a choice may call it: its name, its operator type, its module and those that this is a part of."""
    module = node_module(node)
    parts = module.split(".") if module else []
    return [str(node.name or ""), node.op_type, *(".".join(parts[: index + 1]) for index in range(len(parts)))]


def _fits(node: ir.Node, what: str) -> bool:
    names = _names(node)
    return what in names or any(fnmatch.fnmatchcase(name, what) for name in (names[0], names[-1]) if name)


def _part(
    model: OnnxModel,
    rules: QuantizationRules,
    precision: Precision,
    only: set[str],
    calibration: Calibration | None,
    method: RangeMethod | None,
) -> QuantizationPlan:
    if precision is Precision.INT8_DYNAMIC:
        return dynamic_plan(model, rules, only=only)
    if precision.weight_form is not None:
        return weight_plan(model, rules, precision, only=only)
    if calibration is None:
        raise PlanError(
            asked=f"run nodes in {precision}",
            found="no calibration",
            fix="calibrate first, or choose int8-dynamic or int8-weights for them, which need none",
        )
    if precision is Precision.FP8:
        return float8_plan(model, calibration, rules, only=only)
    return make_plan(model, calibration, rules, method, only=only)


def _require_chosen(
    graph: ir.Graph,
    rules: QuantizationRules,
    choices: Iterable[NodeChoice],
    chosen: dict[ir.Node, Precision],
    planned: dict[str, Precision],
) -> None:
    """Every node that is chosen by its own name runs so, and at least one of every group."""
    for choice in choices:
        meant = [node for node in graph if _fits(node, choice.what) and chosen[node] is choice.precision]
        if choice.precision.is_float or not meant:
            continue
        able = [node for node in meant if str(node.name) in planned]
        alone = [node for node in meant if node.name == choice.what and node not in able]
        if alone or not able:
            raise _cannot(rules, choice.precision, [node.name for node in alone or meant], graph)


def _cannot(rules: QuantizationRules, precision: Precision, names: list[str | None], graph: ir.Graph) -> PlanError:
    node = next((node for node in graph if node.name in names), None)
    able = {
        Precision.INT8: tuple(rules.operators),
        Precision.INT8_DYNAMIC: rules.dynamic_operators,
        Precision.FP8: rules.float8_operators,
    }.get(precision, tuple(rules.weight_operators))
    reason = rules.float_weights.get(node.op_type, "") if node is not None and precision.weight_form is not None else ""
    return PlanError(
        asked=f"run node {names[0]!r} in {precision}" if names else f"run nodes in {precision}",
        found=reason
        or f"that {rules.dialect} can't run this {node.op_type if node is not None else 'node'} so: it does it for "
        f"{', '.join(able) or 'no operator'}, with a constant float weight where there is one, and ranges where needed",
        fix="leave the node out, or choose another precision for it",
        details={"nodes": names},
    )


def _weights(parts: Iterable[QuantizationPlan]) -> dict[str, WeightQuantization]:
    weights: dict[str, WeightQuantization] = {}
    for part in parts:
        for name, spec in part.weights.items():
            if weights.setdefault(name, spec) != spec:
                raise PlanError(
                    asked=f"run the nodes that read {name!r} in different precisions",
                    found=f"one weight in two forms, {weights[name].dtype} and {spec.dtype}",
                    fix="choose one precision for all nodes that read it, or float for some",
                )
    return weights


def _told(parts: list[QuantizationPlan], mix: Mix) -> str:
    """How each part was found, and what was chosen."""
    found = [f"{part.precision}: {part.found_by}" for part in parts]
    return "; ".join([*found, *(f"{choice.what} in {choice.precision}" for choice in mix.nodes)])
