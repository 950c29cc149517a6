"""Which nodes of a graph run as integers under a dialect's rules, and which tensors stand between them.

A node that multiplies (Conv, Gemm, MatMul) is worth quantizing wherever the rules allow it. Every other node follows
its inputs: it runs as integer where all of them come as integers anyway, and so costs nothing; alone among float nodes
it would only add a Q and a DQ. So a residual Add between two quantized convolutions is integer, a lone Reshape is not.
A float operand that is much smaller than the integer one beside it (the gate of squeeze and excitation, one number per
channel) is quantized too: that costs less than bringing the large one back to float. So is the float operand of a sum
that a product reads: the sum must become integers anyway, and then so must all sums behind it that add to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeport.calibration.graph import constant_of, is_constant_float, is_default_domain
from edgeport.contracts import OperatorRule, QuantizationRules

__all__ = ["MULTIPLYING", "IntegerNodes", "find_integer_nodes", "weight_axis", "weight_of", "why_float"]

MULTIPLYING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Worth quantizing wherever the rules allow it; all other nodes follow their inputs."""
_MIXING = frozenset({"Add", "Sub", "Concat"})
_MUCH_SMALLER = 4
"""So many times fewer numbers per sample."""


@dataclass(kw_only=True)
class IntegerNodes:
    """What was found, in the graph's order.

    Attributes:
        nodes: Those that run as integers; the activations that are folded into them are among them.
        weights: Each float initializer that is stored as integers as a weight, with the axes its readers want.
        constants: Float initializers in the place of an activation (the second operand of an Add).
        activations: Tensors that get a Q/DQ pair.
        shared: Groups of tensors with one scale, as pairs.

    """

    nodes: dict[ir.Node, None] = field(default_factory=dict)
    weights: dict[ir.Value, list[int | None]] = field(default_factory=dict)
    constants: dict[ir.Value, None] = field(default_factory=dict)
    activations: dict[ir.Value, None] = field(default_factory=dict)
    shared: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)


def find_integer_nodes(
    graph: ir.Graph,
    rules: QuantizationRules,
    has_range: Callable[[ir.Value], bool],
    excluded: Collection[ir.Node],
    drowns: Callable[[ir.Value, ir.Value], bool] = lambda operand, result: False,  # noqa: ARG005 (named for the reader)
) -> IntegerNodes:
    """Walks the graph once, in the order of computation.

    Args:
        graph: Of the float model.
        rules: The dialect.
        has_range: Whether a range can be had for an activation.
        excluded: Nodes that stay float whatever the rules say.
        drowns: Whether an operand of a sum or concatenation is lost in the steps of its result.

    """
    found = IntegerNodes()
    carried: set[ir.Value] = set()  # what comes out of integer nodes as integers
    weights = {weight_of(node, rule) for node in graph if (rule := _rule(node, rules)) is not None}
    for node in graph:
        rule = _rule(node, rules)
        if rule is None or node in excluded or node in found.nodes:
            continue
        weight = weight_of(node, rule)
        if rule.weight is not None and weight is None and rule.weight not in rule.inputs:
            continue
        sources = _activation_inputs(node, rule)
        constants = [value for value in sources if is_constant_float(value)]
        moving = [value for value in sources if value not in constants]
        folded = _folded(node, rules, excluded)
        outputs = _outputs(node, rule) if not folded else [folded[-1].outputs[0]]
        if not moving or _read_as_floats(outputs, rule) or not all(has_range(value) for value in (*sources, *outputs)):
            continue
        if constants and (rule.same_scale or any(value in weights for value in constants)):
            continue
        follows = node.op_type in MULTIPLYING or _come_as_integers(moving, carried)
        if not follows and not (_joins(node, moving, carried) and _is_multiplied(outputs[0], rules, excluded)):
            continue
        if node.op_type in _MIXING and any(drowns(value, output) for value in moving for output in outputs):
            continue
        found.nodes.update(dict.fromkeys((node, *folded)))
        if weight is not None:
            found.weights.setdefault(weight, []).append(weight_axis(node, rule) if rules.weight_per_channel else None)
        found.constants.update(dict.fromkeys(constants))
        found.activations.update(dict.fromkeys((*moving, *outputs)))
        carried.update(outputs)
        if rule.same_scale:
            first = moving[0]
            found.shared += [(first, value) for value in (*moving[1:], *outputs)]
    return found


def why_float(
    node: ir.Node,
    rules: QuantizationRules,
    has_range: Callable[[ir.Value], bool],
    excluded: Collection[ir.Node],
) -> str:
    """What keeps a node that multiplies in float, as a sentence goes on behind its name.

    Args:
        node: Of a type in `MULTIPLYING` that `find_integer_nodes` did not take.
        rules: As there.
        has_range: As there.
        excluded: As there.

    """
    rule = _rule(node, rules)
    if node in excluded:
        return "is kept in float"
    if rule is None:
        return f"has attributes for which {rules.dialect} has no integer kernel"
    weight = weight_of(node, rule)
    if rule.weight is not None and weight is None and rule.weight not in rule.inputs:
        return "has no constant float32 weight"
    folded = _folded(node, rules, excluded)
    outputs = _outputs(node, rule) if not folded else [folded[-1].outputs[0]]
    values = (*_activation_inputs(node, rule), *outputs)
    without = next((value for value in values if not has_range(value)), None)
    if without is not None:
        return f"has no range for {without.name!r}: that is not float32, not finite in every sample, or was not watched"
    return "multiplies nothing that depends on the inputs"


def _activation_inputs(node: ir.Node, rule: OperatorRule) -> list[ir.Value]:
    """The inputs that the rule calls activations and the node has; its constant weight is none of them."""
    indices = range(len(node.inputs)) if -1 in rule.inputs else rule.inputs
    weight = weight_of(node, rule)
    values = [node.inputs[index] for index in indices if index < len(node.inputs)]
    return [value for value in values if value is not None and value is not weight]


def weight_of(node: ir.Node, rule: OperatorRule) -> ir.Value | None:
    """The node's constant float weight, if it has one."""
    if rule.weight is None or rule.weight >= len(node.inputs):
        return None
    value = node.inputs[rule.weight]
    return value if value is not None and is_constant_float(value) else None


def weight_axis(node: ir.Node, rule: OperatorRule) -> int | None:
    """The axis of the weight that counts output channels, not negative; None where there is none.

    A stack of matrices has none: ONNX Runtime's MatMulIntegerToFloat takes a scale per column of one matrix only.
    """
    weight = weight_of(node, rule)
    if rule.weight_axis is None or weight is None or weight.shape is None:
        return None
    rank = len(weight.shape)
    if node.op_type == "MatMul":
        return 1 if rank == 2 else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return rule.weight_axis % rank


def _come_as_integers(values: list[ir.Value], carried: Collection[ir.Value]) -> bool:
    """All of them, or all but some that are much smaller than one that does."""
    late = [value for value in values if value not in carried]
    largest = max((_size(value) for value in values if value in carried), default=0)
    return not late or all(0 < _size(value) * _MUCH_SMALLER <= largest for value in late)


def _joins(node: ir.Node, values: list[ir.Value], carried: Collection[ir.Value]) -> bool:
    """A sum of integers and floats."""
    return node.op_type == "Add" and any(value in carried for value in values)


def _read_as_floats(values: list[ir.Value], rule: OperatorRule) -> bool:
    """Something that needs floats reads one of them."""
    return any(use.node.op_type in rule.float_before for value in values for use in value.uses())


def _is_multiplied(value: ir.Value, rules: QuantizationRules, excluded: Collection[ir.Node]) -> bool:
    """A product that is worth quantizing reads it."""
    return any(
        use.node.op_type in MULTIPLYING and use.node not in excluded and _rule(use.node, rules) is not None
        for use in value.uses()
    )


def _size(value: ir.Value) -> int:
    """Numbers per sample, as far as the shape is known; symbolic axes (the batch) count as 1. 0 without a shape."""
    return 0 if value.shape is None else math.prod(size for size in value.shape if isinstance(size, int))


def _rule(node: ir.Node, rules: QuantizationRules) -> OperatorRule | None:
    rule = rules.operators.get(node.op_type) if is_default_domain(node) else None
    fits = rule is not None and rule.fits({name: attribute.value for name, attribute in node.attributes.items()})
    return rule if fits else None


def _outputs(node: ir.Node, rule: OperatorRule) -> list[ir.Value]:
    indices = range(len(node.outputs)) if -1 in rule.outputs else rule.outputs
    return [node.outputs[index] for index in indices if index < len(node.outputs) and node.outputs[index].name]


def _folded(node: ir.Node, rules: QuantizationRules, excluded: Collection[ir.Node]) -> tuple[ir.Node, ...]:
    """The activation that the runtime computes together with the node, behind a bias where it folds that too."""
    after = _folded_next(node, rules, excluded)
    if len(after) == 1 and after[0].op_type == "Add":
        return after + _folded_next(after[0], rules, excluded)
    return after


def _folded_next(node: ir.Node, rules: QuantizationRules, excluded: Collection[ir.Node]) -> tuple[ir.Node, ...]:
    """What is folded right behind the node, whose result nothing else reads."""
    output = node.outputs[0]
    wanted = rules.fused.get(node.op_type, ())
    if len(node.outputs) != 1 or output.is_graph_output():
        return ()
    readers = [use.node for use in output.uses()]
    if any(after in excluded or after.graph is not node.graph or not is_default_domain(after) for after in readers):
        return ()  # an If reads it inside its body
    if "Swish" in wanted and len(readers) == 2:
        return _swish(output)
    fits = len(readers) == 1 and (_is_bias(readers[0], output, wanted) or _is_activation(readers[0], output, wanted))
    return (readers[0],) if fits else ()


def _is_activation(node: ir.Node, value: ir.Value, wanted: Collection[str]) -> bool:
    """One of those wanted, of the value; its limits are no results of a computation."""
    if node.op_type not in wanted or node.inputs[0] is not value:
        return False
    return not any(other and constant_of(other) is None for other in node.inputs[1:])


def _is_bias(node: ir.Node, value: ir.Value, wanted: Collection[str]) -> bool:
    """An Add of a constant [N]."""
    if node.op_type != "Add" or "Bias" not in wanted:
        return False
    constant = constant_of(next((each for each in node.inputs if each is not value), None))
    return constant is not None and constant.ndim == 1 and constant.size > 1


def _swish(value: ir.Value) -> tuple[ir.Node, ...]:
    """Sigmoid and Mul, where the two readers of `value` are those of `x * sigmoid(x)`."""
    readers = {use.node.op_type: use.node for use in value.uses()}
    if readers.keys() != {"Sigmoid", "Mul"}:
        return ()
    gate, product = readers["Sigmoid"], readers["Mul"]
    alone = len(gate.outputs[0].uses()) == 1 and not gate.outputs[0].is_graph_output()
    return (gate, product) if alone and set(product.inputs) == {value, gate.outputs[0]} else ()
