"""Plans: which precision each node gets, and which range each tensor, for one dialect.

Rules are data, so no runtime is asked or imported here. Equal inputs give byte-equal plans.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from edgeport.calibration.divisors import divisors
from edgeport.calibration.exclusions import excluded_nodes
from edgeport.calibration.graph import activations, constant_of, float_graph, is_default_domain
from edgeport.calibration.integer_nodes import (
    MULTIPLYING,
    IntegerNodes,
    find_integer_nodes,
    weight_axis,
    weight_of,
    why_float,
)
from edgeport.calibration.ranges import MinMax, PowerOfTwo, RangeMethod, cover_by_power_of_two
from edgeport.calibration.recurrent import recurrent_nodes, recurrent_weights
from edgeport.calibration.tensor_ranges import RangeKey, TensorRanges
from edgeport.contracts import (
    ActivationQuantization,
    Calibration,
    OnnxModel,
    OperatorRule,
    Precision,
    QuantizationPlan,
    QuantizationRules,
    WeightQuantization,
)
from edgeport.errors import CalibrationError, PlanError

__all__ = ["dynamic_plan", "float8_plan", "float_plan", "make_plan", "make_plans", "needed_tensors"]

_DYNAMIC_DEFAULT = OperatorRule(weight=1, weight_axis=-1)
"""Of a dynamic operator that the dialect has no static rule for: X, W."""


def make_plan(
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    method: RangeMethod | None = None,
    *,
    exclude: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> QuantizationPlan:
    """A static int8 plan.

    `plan.activations` holds exactly the tensors that get a Q/DQ pair: what the integer nodes read and write, but not
    what stands between a node and the activation folded into it. Operators that only move values share one range
    between input and output: the union of theirs.

    Args:
        model: A float model.
        calibration: Of this very model.
        rules: Of the dialect.
        method: How ranges are taken from the statistics; min-max where none is given.
        exclude: Node name or operator type to the reason why it stays float.
        only: Names of the nodes that may be integer; None for all.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        CalibrationError: The statistics are of another model, or lack an observer that the method reads.
        PlanError: `exclude` names what is not there, or nothing can be quantized.

    """
    graph = _calibrated_graph(model, calibration)
    return _static_plan(model, graph, calibration, rules, method or MinMax(), exclude=exclude, only=only)


def make_plans(
    model: OnnxModel, calibration: Calibration, rules: QuantizationRules, methods: Sequence[RangeMethod]
) -> Iterator[QuantizationPlan]:
    """`make_plan` by each method, one after the other; what they have in common is found once.

    Raises:
        AlreadyQuantizedError, CalibrationError, PlanError: As `make_plan`.

    """
    graph = _calibrated_graph(model, calibration)
    found: dict[RangeKey, tuple[float, float]] = {}
    for method in methods:
        yield _static_plan(model, graph, calibration, rules, method, found=found)


def _calibrated_graph(model: OnnxModel, calibration: Calibration) -> ir.Graph:
    if calibration.model_digest != model.digest:
        raise CalibrationError(
            asked=f"plan {model.path.name} (digest {model.digest[:12]})",
            found=f"statistics of a model with digest {calibration.model_digest[:12]}",
            fix="plan the model that `edgeport calibrate --recover` wrote beside the statistics"
            if calibration.transforms
            else "calibrate this very model again",
        )
    return float_graph(model)


def _static_plan(  # noqa: PLR0913 (those of `make_plan`)
    model: OnnxModel,
    graph: ir.Graph,
    calibration: Calibration,
    rules: QuantizationRules,
    method: RangeMethod,
    *,
    exclude: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    found: dict[RangeKey, tuple[float, float]] | None = None,
) -> QuantizationPlan:
    exclude = dict(exclude or {})
    ranges = TensorRanges(calibration, rules, method, found)
    excluded = excluded_nodes(graph, exclude, only) | divisors(graph)
    integers = find_integer_nodes(graph, rules, ranges.known, excluded, ranges.drowns)
    nodes = {str(node.name): Precision.INT8 for node in integers.nodes}
    if not nodes:
        begins = [name for name in rules.operators if name in MULTIPLYING]
        why = partial(why_float, rules=rules, has_range=ranges.known, excluded=excluded)
        raise _no_candidates(model, graph, rules, begins, why)
    rounded = {value for node in integers.nodes for value in node.outputs if value in integers.activations}
    recurrent = recurrent_nodes(graph, rules, excluded, rounded)
    nodes |= {str(node.name): Precision.INT8_DYNAMIC for node in recurrent}
    reasons = "".join(f", without {name} ({exclude[name]})" for name in sorted(exclude))
    kind = "synthetic " if calibration.data_free else ""
    return QuantizationPlan(
        dialect=rules.dialect,
        model_digest=model.digest,
        nodes=nodes,
        activations=_activations(integers, ranges),
        weights=_weights(integers, rules, power_of_two=isinstance(ranges.method, PowerOfTwo))
        | recurrent_weights(recurrent, rules),
        found_by=f"{ranges.describe()}, {calibration.sample_count} {kind}samples{reasons}{_told(recurrent)}",
        data_free=calibration.data_free,
        recovered_by=calibration.transforms,
    )


def float8_plan(
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    *,
    exclude: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> QuantizationPlan:
    """A static plan of floats of 8 bits, for `rules.float8_operators`; as `make_plan` else.

    Ranges are by min-max: such floats have steps as fine as what they stand for, so that clipping wins nothing.
    """
    plan = make_plan(model, calibration, rules.in_float8(), MinMax(), exclude=exclude, only=only)
    return replace(plan, nodes=dict.fromkeys(plan.nodes, Precision.FP8))


def dynamic_plan(
    model: OnnxModel,
    rules: QuantizationRules,
    *,
    exclude: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> QuantizationPlan:
    """An int8 plan whose activation ranges are found while it runs; it needs no samples.

    Nodes of `rules.dynamic_operators` and `rules.recurrent_operators` with constant weights are in it, those that
    `only` names if it is given.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        PlanError: `exclude` names what is not there, or nothing can be quantized.

    """
    graph = float_graph(model)
    exclude = dict(exclude or {})
    excluded = excluded_nodes(graph, exclude, only)
    found = IntegerNodes()
    for node in graph:
        if not is_default_domain(node) or node.op_type not in rules.dynamic_operators or node in excluded:
            continue
        rule = rules.operators.get(node.op_type, _DYNAMIC_DEFAULT)
        weight = weight_of(node, rule)
        if weight is None or node.attributes.get_int("transA", 0) == 1:
            continue  # the integer product has no way to transpose what is quantized on the way
        found.nodes[node] = None
        found.weights.setdefault(weight, []).append(weight_axis(node, rule) if rules.weight_per_channel else None)
    recurrent = recurrent_nodes(graph, rules, excluded)
    if not found.nodes and not recurrent:
        begins = (*rules.dynamic_operators, *rules.recurrent_operators)
        raise _no_candidates(model, graph, rules, begins, partial(_why_not_dynamic, excluded, rules))
    reasons = "".join(f", without {name} ({exclude[name]})" for name in sorted(exclude))
    return QuantizationPlan(
        dialect=rules.dialect,
        model_digest=model.digest,
        nodes={str(node.name): Precision.INT8_DYNAMIC for node in (*found.nodes, *recurrent)},
        weights=_weights(found, rules) | recurrent_weights(recurrent, rules),
        found_by=f"dynamic ranges{reasons}",
    )


def _why_not_dynamic(excluded: Collection[ir.Node], rules: QuantizationRules, node: ir.Node) -> str:
    if node in excluded:
        return "is kept in float"
    if node.op_type in rules.recurrent_operators:
        return "has no constant weights, attributes for which there is no integer kernel, or an input without bounds"
    if node.attributes.get_int("transA", 0) == 1:
        return "transposes what would be quantized while it runs"
    return "has no constant float32 weight"


def float_plan(model: OnnxModel, precision: Precision = Precision.FP32, *, dialect: str = "float") -> QuantizationPlan:
    """A plan that leaves every node in one float precision.

    Raises:
        PlanError: The precision is an integer one.

    """
    return QuantizationPlan(
        dialect=dialect, model_digest=model.digest, default=precision, found_by=f"every node in {precision}"
    )


def needed_tensors(model: OnnxModel, rules: Sequence[QuantizationRules]) -> list[str]:
    """The tensors that plans for these dialects take ranges of; `collect` is faster where it watches only them.

    What stands between a node and the activation that is folded into it is not among them, so a plan that keeps such
    an activation in float keeps its node in float too.
    """
    graph = float_graph(model)
    observable = activations(graph)
    known = set(observable)
    needed: set[ir.Value] = set()
    for dialect in (*rules, *(one.in_float8() for one in rules if one.float8_operators)):
        found = find_integer_nodes(
            graph,
            dialect,
            lambda value: value.dtype == ir.DataType.FLOAT and (value in known or constant_of(value) is not None),
            frozenset(),
        )
        needed.update(found.activations)
    return [str(value.name) for value in observable if value in needed]


def _activations(found: IntegerNodes, ranges: TensorRanges) -> dict[str, ActivationQuantization]:
    group: dict[ir.Value, list[ir.Value]] = {value: [value] for value in found.activations}
    for left, right in found.shared:
        if group[left] is not group[right]:
            group[left].extend(group[right])
            for value in group[right]:
                group[value] = group[left]
    return {str(value.name): _shared(group[value], ranges) for value in found.activations}


def _shared(values: list[ir.Value], ranges: TensorRanges) -> ActivationQuantization:
    """One scheme for tensors with one scale: the union of their ranges."""
    ends = [ranges.of(value) for value in values]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if isinstance(ranges.method, PowerOfTwo):
        low, high = cover_by_power_of_two(ranges.scheme, low, high)  # the union of two is none of a power of two
    return ActivationQuantization(
        dtype=ranges.scheme.dtype, minimum=low, maximum=high, symmetric=ranges.scheme.symmetric
    )


def _weights(
    found: IntegerNodes, rules: QuantizationRules, *, power_of_two: bool = False
) -> dict[str, WeightQuantization]:
    weights = {
        str(value.name): WeightQuantization(
            dtype=rules.weight_dtype,
            # One stored weight has one scheme: readers that want different axes get a single scale.
            axis=axes[0] if len(set(axes)) == 1 else None,
            reduce_range=rules.weight_reduce_range,
            power_of_two=power_of_two,
        )
        for value, axes in found.weights.items()
    }
    constants = {
        str(value.name): WeightQuantization(
            dtype=rules.activation_dtype, symmetric=rules.activation_symmetric, power_of_two=power_of_two
        )
        for value in found.constants
    }
    return constants | weights


def _told(recurrent: Sequence[ir.Node]) -> str:
    kinds = ", ".join(sorted({node.op_type for node in recurrent}))
    return f"; {kinds} with int8 weights and activations that become int8 while it runs" if kinds else ""


def _no_candidates(
    model: OnnxModel,
    graph: ir.Graph,
    rules: QuantizationRules,
    begins: Collection[str],
    why_not: Callable[[ir.Node], str],
) -> PlanError:
    """The refusal: what integers would begin at, and why they do not there.

    Args:
        model: For its name.
        graph: Of it.
        rules: The dialect.
        begins: Operator types at which integers begin; all others follow their inputs.
        why_not: Of a node of such a type, what keeps it in float ("has no constant weight").

    """
    present = sorted({node.op_type for node in graph})
    able = [node for node in graph if node.op_type in begins and is_default_domain(node)]
    if able:
        others = f" (and {len(able) - 1} more like it)" if len(able) > 1 else ""
        found = f"{able[0].op_type} {able[0].name!r}{others} {why_not(able[0])}"
    else:
        following = [name for name in present if name in rules.operators and name not in begins]
        behind = f"; {', '.join(following)} would be integers only behind one of these" if following else ""
        found = (
            f"integers begin at {', '.join(begins)}, and the model has {', '.join(present) or 'no operator'}{behind}"
        )
    return PlanError(
        asked=f"plan {model.path.name} in int8 for {rules.dialect}",
        found=f"no node to quantize: {found}",
        fix="run the model in a float precision",
    )
