"""Plans: which precision each node gets, and which range each tensor, for one dialect.

Rules are data, so no runtime is asked or imported here. Equal inputs give byte-equal plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeport.calibration.exclude import excluded_nodes
from edgeport.calibration.graph import activations, constant_of, infer_types, is_default_domain
from edgeport.calibration.integer_nodes import (
    IntegerNodes,
    find_integer_nodes,
    weight_axis,
    weight_of,
)
from edgeport.calibration.ranges import MinMax, RangeMethod, Scheme, describe, range_of
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
from edgeport.onnx_files import read_ir, refuse_quantized

__all__ = ["dynamic_plan", "float_plan", "make_plan", "needed_tensors"]

_NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "ReduceL1", "ReduceL2"})
_FEW_STEPS = 4
_DYNAMIC_DEFAULT = OperatorRule(weight=1, weight_axis=-1)
"""Of a dynamic operator that the dialect has no static rule for: X, W."""


def make_plan(
    model: OnnxModel,
    calibration: Calibration,
    rules: QuantizationRules,
    method: RangeMethod | None = None,
    *,
    exclude: Mapping[str, str] | None = None,
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

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        CalibrationError: The statistics are of another model, or lack an observer that the method reads.
        PlanError: `exclude` names what is not there, or nothing can be quantized.

    """
    if calibration.model_digest != model.digest:
        raise CalibrationError(
            asked=f"plan {model.path.name} (digest {model.digest[:12]})",
            found=f"statistics of a model with digest {calibration.model_digest[:12]}",
            fix="calibrate this very model again",
        )
    graph = _float_graph(model)
    method = method if method is not None else MinMax()
    exclude = dict(exclude or {})
    ranges = _Ranges(calibration=calibration, rules=rules, method=method)
    found = find_integer_nodes(graph, rules, ranges.known, excluded_nodes(graph, exclude), ranges.drowns)
    nodes = {str(node.name): Precision.INT8 for node in found.nodes}
    if not nodes:
        raise _nothing(model, graph, rules, tuple(rules.operators))
    reasons = "".join(f", without {name} ({exclude[name]})" for name in sorted(exclude))
    return QuantizationPlan(
        dialect=rules.dialect,
        model_digest=model.digest,
        nodes=nodes,
        activations=_activations(found, ranges),
        weights=_weights(found, rules),
        found_by=f"{describe(method)}, {calibration.sample_count} samples{reasons}",
        data_free=calibration.data_free,
    )


def dynamic_plan(
    model: OnnxModel, rules: QuantizationRules, *, exclude: Mapping[str, str] | None = None
) -> QuantizationPlan:
    """An int8 plan whose activation ranges are found while it runs; it needs no samples.

    Nodes of `rules.dynamic_operators` with a constant weight are in it.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        PlanError: `exclude` names what is not there, or nothing can be quantized.

    """
    graph = _float_graph(model)
    exclude = dict(exclude or {})
    excluded = excluded_nodes(graph, exclude)
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
    if not found.nodes:
        raise _nothing(model, graph, rules, rules.dynamic_operators)
    reasons = "".join(f", without {name} ({exclude[name]})" for name in sorted(exclude))
    return QuantizationPlan(
        dialect=rules.dialect,
        model_digest=model.digest,
        nodes={str(node.name): Precision.INT8_DYNAMIC for node in found.nodes},
        weights=_weights(found, rules),
        found_by=f"dynamic ranges{reasons}",
    )


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
    graph = _float_graph(model)
    observable = activations(graph)
    known = set(observable)
    needed: set[ir.Value] = set()
    for dialect in rules:
        found = find_integer_nodes(
            graph,
            dialect,
            lambda value: value.dtype == ir.DataType.FLOAT and (value in known or constant_of(value) is not None),
            frozenset(),
        )
        needed.update(found.activations)
    return [str(value.name) for value in observable if value in needed]


@dataclass(frozen=True, kw_only=True)
class _Ranges:
    """Ranges of activations, by the chosen method."""

    calibration: Calibration
    rules: QuantizationRules
    method: RangeMethod

    def known(self, value: ir.Value) -> bool:
        """float32, and finite in every sample: Inf (a mask) has no place in a range."""
        if value.dtype != ir.DataType.FLOAT:
            return False
        constant = constant_of(value)
        if constant is not None:
            return bool(np.isfinite(constant).all())
        statistics = self.calibration.statistics.get(value.name or "")
        if statistics is None:
            return False
        extremes = statistics.get("extremes")
        return extremes is None or int(extremes["nonfinite"]) == 0 < int(extremes["count"])

    def drowns(self, operand: ir.Value, result: ir.Value) -> bool:
        """The operand varies by fewer than four of the result's 256 steps.

        A mask that adds -10000 to scores of -10..10 makes the steps so wide that all scores look the same.
        """
        (low, high), (bottom, top) = self.of(operand), self.of(result)
        return 0 < high - low < _FEW_STEPS / 256 * (max(top, 0.0) - min(bottom, 0.0))

    def of(self, value: ir.Value) -> tuple[float, float]:
        """Smallest and largest value."""
        constant = constant_of(value)
        if constant is not None:
            return (float(constant.min()), float(constant.max())) if constant.size else (0.0, 0.0)
        scheme = Scheme(dtype=self.rules.activation_dtype, symmetric=self.rules.activation_symmetric)
        low, high = range_of(self.method, self.calibration.statistics[str(value.name)], scheme=scheme)
        if not self.rules.activation_symmetric and _is_never_negative(value):
            low = 0.0  # the zero point is then the lowest integer, and saturation is the Relu
        return min(low, high), high


def _is_never_negative(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or not is_default_domain(node):
        return False
    if node.op_type == "Clip":
        low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low.size == 1 and float(low.reshape(())) >= 0.0
    return node.op_type in _NEVER_NEGATIVE


def _activations(found: IntegerNodes, ranges: _Ranges) -> dict[str, ActivationQuantization]:
    group: dict[ir.Value, list[ir.Value]] = {value: [value] for value in found.activations}
    for left, right in found.shared:
        if group[left] is not group[right]:
            group[left].extend(group[right])
            for value in group[right]:
                group[value] = group[left]
    own = {value: ranges.of(value) for value in found.activations}
    return {
        str(value.name): ActivationQuantization(
            dtype=ranges.rules.activation_dtype,
            minimum=min(own[member][0] for member in group[value]),
            maximum=max(own[member][1] for member in group[value]),
            symmetric=ranges.rules.activation_symmetric,
        )
        for value in found.activations
    }


def _weights(found: IntegerNodes, rules: QuantizationRules) -> dict[str, WeightQuantization]:
    weights = {
        str(value.name): WeightQuantization(
            dtype=rules.weight_dtype,
            # One stored weight has one scheme: readers that want different axes get a single scale.
            axis=axes[0] if len(set(axes)) == 1 else None,
            reduce_range=rules.weight_reduce_range,
        )
        for value, axes in found.weights.items()
    }
    constants = {
        str(value.name): WeightQuantization(dtype=rules.activation_dtype, symmetric=rules.activation_symmetric)
        for value in found.constants
    }
    return constants | weights


def _float_graph(model: OnnxModel) -> ir.Graph:
    ir_model = read_ir(model)
    refuse_quantized(ir_model, f"plan {model.path.name}")
    infer_types(ir_model)
    return ir_model.graph


def _nothing(model: OnnxModel, graph: ir.Graph, rules: QuantizationRules, operators: tuple[str, ...]) -> PlanError:
    present = sorted({node.op_type for node in graph})
    return PlanError(
        asked=f"plan {model.path.name} in int8 for {rules.dialect}",
        found=f"no node to quantize: the model has {', '.join(present)}, the dialect takes {', '.join(operators)}",
        fix="run the model in a float precision",
    )
