"""Recurrent layers whose weights are integers, and whose activations become integers while they run.

Their state has no range that could be watched: it never leaves the operator. So they are planned in dynamic int8, in
a static plan too. They round input and state to 256 steps each, over all that comes in a call. A state lies between -1
and 1; an input may hold a few large numbers beside many small ones that matter as much (the powers of a sound's bands:
of 34 dB of a speaker encoder 3 were left). So the input must be one that is bounded too, or is rounded anyway.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeport.calibration.graph import constant_of, is_constant_float, is_default_domain
from edgeport.contracts import QuantizationRules, RecurrentRule, WeightQuantization

__all__ = ["recurrent_nodes", "recurrent_weights"]

_ROWS = 1
"""Axis of the gates' rows in a weight [directions, gates * hidden, values]."""
_WITHIN_ONE = frozenset({"LSTM", "GRU", "RNN", "Tanh", "Sigmoid", "HardSigmoid"})
_BOUNDED = _WITHIN_ONE | {"LayerNormalization"}
_FIRST_STATE = 5
"""Index of the state that a layer begins with."""
_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity", "Dropout", "Cast"})


def recurrent_nodes(
    graph: ir.Graph,
    rules: QuantizationRules,
    excluded: Collection[ir.Node],
    rounded: Collection[ir.Value] = (),
) -> list[ir.Node]:
    """Those that the dialect has an integer kernel for, with constant finite weights, in the graph's order.

    Args:
        graph: Of the float model.
        rules: The dialect.
        excluded: Nodes that stay float whatever the rules say.
        rounded: What integer nodes give as integers.

    """
    return [
        node
        for node in graph
        if is_default_domain(node)
        and node not in excluded
        and (rule := rules.recurrent_operators.get(node.op_type)) is not None
        and rule.fits({name: attribute.value for name, attribute in node.attributes.items()}, node.inputs)
        and all(_is_weight(value) for value in _weights(node, rule))
        and _is_bounded(node, rule, rounded)
    ]


def recurrent_weights(nodes: Collection[ir.Node], rules: QuantizationRules) -> dict[str, WeightQuantization]:
    """The schemes of their weights, by name: a scale per row of the gates."""
    scheme = WeightQuantization(
        dtype=rules.weight_dtype,
        axis=_ROWS if rules.weight_per_channel else None,
        reduce_range=rules.weight_reduce_range,
    )
    operators = rules.recurrent_operators
    return {
        str(value.name): scheme
        for node in nodes
        for value in _weights(node, operators[node.op_type])
        if value is not None
    }


def _weights(node: ir.Node, rule: RecurrentRule) -> list[ir.Value | None]:
    return [node.inputs[index] if index < len(node.inputs) else None for index in rule.weights]


def _is_weight(value: ir.Value | None) -> bool:
    constant = constant_of(value)
    if value is None or constant is None or constant.ndim != 3:
        return False
    return is_constant_float(value) and bool(np.isfinite(constant).all())


def _is_bounded(node: ir.Node, rule: RecurrentRule, rounded: Collection[ir.Value]) -> bool:
    """What the layer reads lies where the runtime rounds it well."""
    if not rule.within_one:
        return _comes_from(node.inputs[0], _BOUNDED, rounded)
    state = constant_of(node.inputs[_FIRST_STATE]) if len(node.inputs) > _FIRST_STATE else None
    inside = state is None or bool((np.abs(state) <= 1).all())
    return inside and _comes_from(node.inputs[0], _WITHIN_ONE, ())


def _comes_from(value: ir.Value | None, operators: Collection[str], rounded: Collection[ir.Value]) -> bool:
    """It comes, as it is, from one of the operators, or is one of the rounded."""
    while value is not None and value not in rounded:
        node = value.producer()
        if node is None or not is_default_domain(node):
            return False
        if node.op_type in operators:
            return True
        if node.op_type not in _MOVES:
            return False
        value = node.inputs[0]
    return value is not None
