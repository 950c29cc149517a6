"""The rules of the dialect `tensorrt`: symmetric int8 with zero point 0, weights per channel, float bias.

TensorRT refuses other zero points and biases behind a DequantizeLinear. Where the pairs stand follows "Working with
Quantized Types" of its documentation: before what computes in integers, on both sides of a residual Add, and not
behind the last operator.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from edgeport.contracts import OperatorRule, QuantizationRules

__all__ = ["DIALECT", "rules"]

DIALECT = "tensorrt"

_ONE = OperatorRule()
_ALL = OperatorRule(inputs=(-1,))
_MOVES = OperatorRule(same_scale=True)

_OPERATORS: dict[str, OperatorRule] = {
    "Conv": OperatorRule(weight=1, weight_axis=0, bias=2),
    "ConvTranspose": OperatorRule(weight=1, weight_axis=1, bias=2),
    "Gemm": OperatorRule(weight=1, weight_axis=0, bias=2),
    # With a constant second factor only; the Add of its bias is folded in.
    "MatMul": OperatorRule(weight=1, weight_axis=-1),
    "Add": _ALL,
    "Concat": _ALL,
    "AveragePool": _ONE,
    "GlobalAveragePool": _ONE,
    "MaxPool": _MOVES,
    "Reshape": _MOVES,
    "Flatten": _MOVES,
    "Transpose": _MOVES,
    "Squeeze": _MOVES,
    "Unsqueeze": _MOVES,
}

_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Elu", "HardSwish", "Sigmoid", "HardSigmoid", "Tanh", "Gelu")
_FUSED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "Add"), _ACTIVATIONS),
    "MatMul": ("Add", *_ACTIVATIONS),
}


def rules() -> QuantizationRules:
    """The rules; equal for every GPU."""
    return QuantizationRules(
        dialect=DIALECT,
        activation_dtype="int8",
        activation_symmetric=True,
        weight_dtype="int8",
        weight_per_channel=True,
        operators=_OPERATORS,
        fused=_FUSED,
    )
