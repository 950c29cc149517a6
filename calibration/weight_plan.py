"""Plans whose weights alone are integers; they need no samples, for nothing is asked of activations.

What a weight loses is rounding to the nearest integer of its block, or of its output channel: no data is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from edgeport.calibration.exclusions import excluded_nodes
from edgeport.calibration.graph import float_graph, is_constant_float, is_default_domain
from edgeport.contracts import OnnxModel, Precision, QuantizationPlan, QuantizationRules, WeightForm, WeightQuantization
from edgeport.errors import PlanError

__all__ = ["weight_plan"]


def weight_plan(
    model: OnnxModel,
    rules: QuantizationRules,
    precision: Precision,
    *,
    exclude: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> QuantizationPlan:
    """A plan in one of the precisions that end in `-weights`, `-weights-32` and so on.

    Products (MatMul, Gemm) and tables (Gather on axis 0) of `rules.weight_operators` with a constant weight of two axes
    are in it, and convolutions, whose weights get int8 and one scale per channel. A weight that can't be in blocks
    there gets the same, so a plan in 4 bits may name nodes in `int8-weights` too. A weight whose readers want their
    scales along different axes stays float.

    Args:
        model: A float model.
        rules: Of the dialect.
        precision: How weights are stored.
        exclude: Node name or operator type to the reason why it stays float.
        only: Names of the nodes that may be in it; None for all.

    Raises:
        AlreadyQuantizedError: The model carries Q/DQ pairs or integer operators.
        PlanError: No precision of weights, `exclude` names what is not there, or no weight can be stored so.

    """
    form = precision.weight_form
    if form is None:
        raise PlanError(
            asked=f"store the weights of {model.path.name} in {precision}",
            found="a precision of activations too, or of floats",
            fix=f"take one of {', '.join(one for one in Precision if one.weight_form is not None)}",
        )
    graph = float_graph(model)
    exclude = dict(exclude or {})
    excluded = excluded_nodes(graph, exclude, only)
    chosen = {node: value for node in graph if node not in excluded and (value := _weight_of(node, rules)) is not None}
    schemes = {node: _scheme(node, value, form, rules) for node, value in chosen.items()}
    torn = {
        value
        for node, value in chosen.items()
        if any(schemes[other] != schemes[node] for other, same in chosen.items() if same is value)
    }
    nodes = {
        str(node.name): Precision.INT8_WEIGHTS if schemes[node].block_size is None else precision
        for node, value in chosen.items()
        if value not in torn
    }
    if precision not in nodes.values():
        raise _nothing(model, graph, rules, precision)
    reasons = "".join(f", without {name} ({exclude[name]})" for name in sorted(exclude))
    return QuantizationPlan(
        dialect=rules.dialect,
        model_digest=model.digest,
        nodes=nodes,
        weights={str(value.name): schemes[node] for node, value in chosen.items() if str(node.name) in nodes},
        found_by=f"weights rounded to the nearest, no samples{reasons}",
    )


def _weight_of(node: ir.Node, rules: QuantizationRules) -> ir.Value | None:
    """The weight that can be stored as integers; None where the node has none."""
    place = rules.weight_operators.get(node.op_type) if is_default_domain(node) else None
    if place is None or len(node.inputs) < 2:
        return None
    value, other = node.inputs[place], node.inputs[1 - place]
    if value is None or other is None or not is_constant_float(value):
        return None
    if value.shape is None or 0 in value.shape.numpy():
        return None
    return value if _has_form(node, len(value.shape), len(other.shape) if other.shape is not None else None) else None


def _has_form(node: ir.Node, axes: int, others: int | None) -> bool:
    """A weight of so many axes, beside an input of so many, is one that kernels take narrow."""
    if node.op_type == "Conv":
        return True
    if node.op_type == "MatMul" and others is not None and others < 2:
        return False  # a vector; the kernels take rows
    turned = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1
    picked = node.op_type == "Gather" and node.attributes.get_int("axis", 0) != 0
    return axes == 2 and not turned and not picked


def _scheme(node: ir.Node, weight: ir.Value, form: WeightForm, rules: QuantizationRules) -> WeightQuantization:
    """Blocks along what is summed (of a table: along the row), else a scale per output channel (per row)."""
    if node.op_type == "Conv":
        return WeightQuantization(dtype="int8", axis=0)
    summed = 1 if node.op_type == "Gather" or node.attributes.get_int("transB", 0) == 1 else 0
    size = form.block_size
    length = weight.shape.numpy()[summed] if weight.shape is not None else 0
    whole = size is None or length % size == 0
    if size is not None and node.op_type in rules.block_operators and (whole or not rules.whole_blocks):
        return WeightQuantization(dtype=form.dtype, axis=summed, block_size=size, symmetric=form.symmetric)
    return WeightQuantization(dtype="int8", axis=1 - summed)


def _nothing(model: OnnxModel, graph: ir.Graph, rules: QuantizationRules, precision: Precision) -> PlanError:
    asked = f"plan {model.path.name} in {precision} for {rules.dialect}"
    form = precision.weight_form or WeightForm(dtype="int8")
    blocks = form.block_size is not None
    wanted = rules.block_operators if blocks else tuple(rules.weight_operators)
    overridden = [
        (node, node.inputs[place])
        for node in graph
        if (place := rules.weight_operators.get(node.op_type)) is not None and len(node.inputs) > place
    ]
    for node, value in overridden:
        if value is not None and value.is_initializer() and value.is_graph_input():
            return PlanError(
                asked=asked,
                found=f"weight {value.name!r} of node {node.name!r}, which the caller of the model can override",
                fix="export the model with constant weights (take the weight out of the graph's inputs)",
            )
    unable = next((node for node in graph if node.op_type in rules.float_weights), None)
    reason = f"; {unable.op_type} {unable.name!r}: {rules.float_weights[unable.op_type]}" if unable is not None else ""
    return PlanError(
        asked=asked,
        found=f"no constant weight of two axes that {' or '.join(wanted) or 'an operator of this dialect'} reads"
        + (f", whose summed axis is a multiple of {form.block_size}" if blocks and rules.whole_blocks else "")
        + ", each along the same axis"
        + reason,
        fix="take int8-weights, which needs no blocks" if blocks else "run the model in another precision",
    )
