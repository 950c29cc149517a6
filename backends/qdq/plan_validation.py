"""Whether a plan fits its model and its dialect; asked before anything is edited."""

from __future__ import annotations

import onnx_ir as ir

from edgeport.backends.qdq.graph import GraphEdit, is_static
from edgeport.contracts import OperatorRule, Precision, QuantizationPlan, QuantizationRules
from edgeport.errors import PlanError

__all__ = ["check_plan", "rule_inputs"]

LOWEST_OPSET = 13
"""QuantizeLinear has scales per channel from here on."""

FLOAT8_OPSET = 19
"""QuantizeLinear gives floats of 8 bits from here on."""

_BYTES = ("int8", "uint8", "float8e4m3fn")
_NIBBLES = ("int4", "uint4")


def check_plan(edit: GraphEdit, opset: int, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    """Raises where the plan does not fit.

    Raises:
        PlanError: It names what the model has not, asks of an operator what the dialect can't do, or leaves out a
            range that one of its integer nodes needs.

    """
    if plan.dialect != rules.dialect:
        raise PlanError(
            asked=f"write a plan in the dialect {rules.dialect!r}",
            found=f"a plan that was made for {plan.dialect!r}",
            fix="make a plan for this backend; ranges differ between dialects",
        )
    if opset < LOWEST_OPSET:
        raise PlanError(
            asked="quantize per channel",
            found=f"a model of opset {opset}; QuantizeLinear has an axis from opset {LOWEST_OPSET} on",
            fix="export the model again with opset 20, or convert it with onnx.version_converter",
        )
    for name, precision in plan.nodes.items():
        if precision is Precision.INT8:
            _check_static(edit, name, plan, rules)
        elif precision is Precision.FP8:
            _check_float8(opset)
            _check_static(edit, name, plan, rules.in_float8())
        elif precision is Precision.INT8_DYNAMIC:
            _check_dynamic(edit, name, plan, rules)
        elif precision.weight_form is not None:
            _check_weight_only(edit, name, plan, rules)
        elif name not in edit.nodes:
            raise _unknown("node", name)
        elif precision is not plan.default and not rules.mixed_floats:
            raise PlanError(
                asked=f"run node {name!r} in {precision}, the others in {plan.default}",
                found=f"that {rules.dialect} runs all that is not integer in one float precision",
                fix=f"keep it in {plan.default}, or run all that is not integer in {precision}",
            )
    _check_activations(edit, plan)
    _check_weights(edit, plan)


def _check_float8(opset: int) -> None:
    if opset < FLOAT8_OPSET:
        raise PlanError(
            asked="quantize to floats of 8 bits",
            found=f"a model of opset {opset}; QuantizeLinear gives them from opset {FLOAT8_OPSET} on",
            fix="export the model again with opset 20, or convert it with onnx.version_converter",
        )


def rule_inputs(node: ir.Node, rule: OperatorRule) -> tuple[int, ...]:
    """Indices of the activations that the rule names and the node has."""
    indices = range(len(node.inputs)) if -1 in rule.inputs else rule.inputs
    return tuple(index for index in indices if index < len(node.inputs) and node.inputs[index] is not None)


def _check_static(edit: GraphEdit, name: str, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    node = _node(edit, name)
    if _is_folded(node, plan, rules):
        return
    rule = rules.operators.get(node.op_type) if node.domain == "" else None
    if rule is None or not rule.fits({name: attribute.value for name, attribute in node.attributes.items()}):
        kind = "integer" if plan.nodes[name] is Precision.INT8 else plan.nodes[name]
        raise PlanError(
            asked=f"run node {name!r} ({node.op_type}) in {plan.nodes[name]}",
            found=f"that {rules.dialect} has no {kind} {node.op_type} like it, and the node before does not fold it",
            fix="leave the node in float",
        )
    for index in sorted({*rule_inputs(node, rule), *(() if rule.weight is None else (rule.weight,))}):
        value = node.inputs[index]
        if value is not None and value.name not in plan.activations and value.name not in plan.weights:
            raise PlanError(
                asked=f"run node {name!r} ({node.op_type}) in {plan.nodes[name]}",
                found=f"no range for its input {value.name!r}",
                fix="calibrate that tensor, or leave the node in float",
            )


def _is_folded(node: ir.Node, plan: QuantizationPlan, rules: QuantizationRules) -> bool:
    """The integer operator before takes it in, so that no integers stand between the two."""
    for index, value in enumerate(node.inputs):
        before = value.producer() if value is not None else None
        if before is None or not is_static(before, plan) or before.outputs[0].name in plan.activations:
            continue
        folds = rules.fused.get(before.op_type, ())
        added = node.op_type == "Add" and "Bias" in folds
        if added or (index == 0 and node.op_type in folds) or ("Swish" in folds and _is_swish(node, before)):
            return True
    return False


def _is_swish(node: ir.Node, before: ir.Node) -> bool:
    """It is one of the two nodes of `x * sigmoid(x)`, and `before` gives x."""
    if node.op_type == "Sigmoid":
        return True
    sources = [value.producer() for value in node.inputs if value is not None]
    gate = next((source for source in sources if source is not None and source.op_type == "Sigmoid"), None)
    return node.op_type == "Mul" and before in sources and gate is not None and gate.inputs[0] is before.outputs[0]


def _check_dynamic(edit: GraphEdit, name: str, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    node = _node(edit, name)
    rule = rules.recurrent_operators.get(node.op_type) if node.domain == "" else None
    recurrent = rule.weights if rule is not None else None
    if recurrent is None and (node.domain != "" or node.op_type not in rules.dynamic_operators):
        raise PlanError(
            asked=f"run node {name!r} ({node.op_type}) in dynamic int8",
            found=f"that {rules.dialect} does this for {', '.join(rules.dynamic_operators) or 'no operator'} only",
            fix="leave the node in float",
        )
    for index in recurrent or (1,):
        weight = node.inputs[index]
        if weight is None or weight.name not in plan.weights:
            raise PlanError(
                asked=f"run node {name!r} ({node.op_type}) in dynamic int8",
                found=f"that its input {index}, {weight.name if weight else ''!r}, is not among the plan's weights",
                fix="dynamic int8 needs a constant weight; leave the node in float",
            )


def _check_weight_only(edit: GraphEdit, name: str, plan: QuantizationPlan, rules: QuantizationRules) -> None:
    node = _node(edit, name)
    asked = f"run node {name!r} ({node.op_type}) in {plan.nodes[name]}"
    if node.domain != "" or node.op_type not in rules.weight_operators:
        raise PlanError(
            asked=asked,
            found=f"that {rules.dialect} does this for {', '.join(rules.weight_operators) or 'no operator'} only",
            fix="leave the node in float",
        )
    weight = node.inputs[rules.weight_operators[node.op_type]]
    if weight is None or weight.name not in plan.weights:
        computed = weight is None or not edit.is_constant(weight)
        raise PlanError(
            asked=asked,
            found=f"{weight.name if weight else ''!r} in the place of the weight, which "
            + ("is no constant" if computed else "is not among the plan's weights"),
            fix="integer weights are made of constants; leave the node in float",
        )
    spec = plan.weights[str(weight.name)]
    blocked = spec.block_size is not None
    if blocked and (len(weight.shape or ()) != 2 or node.op_type not in rules.block_operators):
        raise PlanError(
            asked=asked,
            found=f"a weight of shape {tuple(weight.shape or ())}, in blocks",
            fix=f"store weights of two axes in blocks, those of {', '.join(rules.block_operators) or 'no operator'}",
        )


def _check_activations(edit: GraphEdit, plan: QuantizationPlan) -> None:
    for name in plan.activations:
        value = edit.values.get(name)
        if value is None:
            raise _unknown("tensor", name)
        if edit.is_constant(value):
            raise PlanError(
                asked=f"quantize {name!r} as an activation",
                found="a constant",
                fix="name it among the plan's weights; its range is read from the constant itself",
            )
        if value.dtype not in (ir.DataType.FLOAT, None):
            raise PlanError(asked=f"quantize {name!r}", found=f"{value.dtype}", fix="quantize float32 tensors only")
        if plan.activations[name].dtype not in _BYTES:
            raise _wide(name, plan.activations[name].dtype)
        if not any(is_static(node, plan) for node in (value.producer(), *(use.node for use in value.uses()))):
            raise PlanError(
                asked=f"quantize {name!r}",
                found="no int8 node that writes or reads it",
                fix="leave the tensor out of the plan, or plan a node beside it in int8",
            )


def _check_weights(edit: GraphEdit, plan: QuantizationPlan) -> None:
    for name, spec in plan.weights.items():
        value = edit.values.get(name)
        if value is None:
            raise _unknown("weight", name)
        if not edit.is_constant(value) or value.dtype != ir.DataType.FLOAT:
            raise PlanError(
                asked=f"store {name!r} as {spec.dtype}",
                found=f"no float32 constant ({value.dtype}, {'constant' if edit.is_constant(value) else 'computed'})",
                fix="name only float32 initializers as weights",
            )
        if spec.dtype not in (_BYTES if spec.block_size is None else (*_BYTES, *_NIBBLES)):
            raise _wide(name, spec.dtype)
        rank = len(value.shape or ())
        if spec.axis is not None and not -rank <= spec.axis < rank:
            raise PlanError(
                asked=f"quantize {name!r} along axis {spec.axis}",
                found=f"a weight of shape {tuple(value.shape or ())}",
                fix=f"use an axis of -{rank}..{rank - 1}, or none",
            )
        if not any(plan.nodes.get(use.node.name or "", plan.default).is_float is False for use in value.uses()):
            raise PlanError(
                asked=f"store {name!r} as {spec.dtype}",
                found="no integer node that reads it",
                fix="leave the weight out of the plan",
            )


def _node(edit: GraphEdit, name: str) -> ir.Node:
    if name not in edit.nodes:
        raise _unknown("node", name)
    if sum(node.name == name for node in edit.graph) > 1:
        raise PlanError(
            asked=f"give node {name!r} a precision",
            found="several nodes of that name",
            fix="export the model with Edgeport, which gives every node a name of its own",
        )
    return edit.nodes[name]


def _unknown(what: str, name: str) -> PlanError:
    return PlanError(
        asked=f"quantize {what} {name!r}",
        found=f"no such {what} in the model's main graph",
        fix="use the plan with the model that it was made for",
    )


def _wide(name: str, dtype: str) -> PlanError:
    return PlanError(
        asked=f"store {name!r} as {dtype}",
        found="that Q/DQ is written for 8 bits",
        fix="use int8 or uint8 (4 bits in blocks of weights)",
    )
