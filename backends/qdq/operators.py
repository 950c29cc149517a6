"""How each operator is quantized, written once.

A backend's rules pick from these tables what its runtime can do, and say where it differs. The names of inputs and
outputs are those of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeport.contracts import OperatorRule

__all__ = [
    "BY_CONSTANT",
    "CURVES",
    "MOVES",
    "OPERATORS",
    "RELU_LIKE",
    "fold_behind_products",
    "operator_rules",
]

_ONE = OperatorRule()
_ALL = OperatorRule(inputs=(-1,))
_MOVED = OperatorRule(same_scale=True)

OPERATORS: dict[str, OperatorRule] = {
    # the output channels are axis 0 of W [M, C/group, ...]
    "Conv": OperatorRule(weight=1, weight_axis=0, bias=2),
    # X, W [C, M/group, ...], B [M]: axis 1 counts output channels only when group is 1
    "ConvTranspose": OperatorRule(weight=1, weight_axis=1, bias=2),
    # A [M, K], B [N, K] with transB=1, as PyTorch exports it; the axis is 1 with transB=0
    "Gemm": OperatorRule(weight=1, weight_axis=0, bias=2),
    # A [..., K], B [..., K, N]: two activations where B is no constant, as in attention
    "MatMul": OperatorRule(inputs=(0, 1), weight=1, weight_axis=-1),
    "Add": _ALL,
    "Sub": _ALL,
    "Mul": _ALL,
    "Div": _ALL,
    "Concat": _ALL,
    "GlobalAveragePool": _ONE,
    "AveragePool": _ONE,
    "ReduceMean": _ONE,
    "LeakyRelu": _ONE,
    "Relu": _ONE,
    "Clip": _ONE,
    "PRelu": _ONE,
    "Sigmoid": _ONE,
    "HardSigmoid": _ONE,
    "HardSwish": _ONE,
    "Softmax": _ONE,
    "Gelu": _ONE,
    "Tanh": _ONE,
    # These move numbers or pick some of them: input and output share scale and zero point.
    "MaxPool": _MOVED,
    "Reshape": _MOVED,
    "Flatten": _MOVED,
    "Transpose": _MOVED,
    "Squeeze": _MOVED,
    "Unsqueeze": _MOVED,
    "Slice": _MOVED,
    "Gather": _MOVED,
    "Expand": _MOVED,
    "DepthToSpace": _MOVED,
    "SpaceToDepth": _MOVED,
    "Resize": _MOVED,
    "Split": OperatorRule(outputs=(-1,), same_scale=True),
    "Pad": _MOVED,
}
"""Operator type to its rule."""

RELU_LIKE = ("Relu", "Clip")
"""Activations that every runtime folds into the operator before, for they only cut the range."""

CURVES = ("LeakyRelu", "Elu", "HardSwish", "Sigmoid", "Tanh", "Gelu")
"""Activations that a compiler of kernels computes on the sums of a product, before it rounds them."""

MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""What every runtime does on integers as it is."""

BY_CONSTANT = OperatorRule(weight=1, weight_axis=-1)
"""A MatMul with a constant second factor only: attention stays float, where a runtime has one kernel for all of it."""


def fold_behind_products(*activations: str) -> dict[str, tuple[str, ...]]:
    """What a compiler of kernels folds: activations into products and sums, and a MatMul's bias as well."""
    return {
        **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "Add"), activations),
        "MatMul": ("Add", *activations),
    }


def operator_rules(
    names: Iterable[str], differences: Mapping[str, OperatorRule] | None = None
) -> dict[str, OperatorRule]:
    """The rules of the named operators, in the table's order.

    Args:
        names: Operator types.
        differences: Rules that take the place of the table's.

    Raises:
        KeyError: A name that the table has not.

    """
    wanted = set(names)
    missing = wanted - OPERATORS.keys()
    if missing:
        raise KeyError(sorted(missing))
    return {name: (differences or {}).get(name, rule) for name, rule in OPERATORS.items() if name in wanted}
