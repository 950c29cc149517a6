"""The dialects of ONNX Runtime's CPU provider.

What stands here was found by asking which operators the runtime fuses (tests/backends/onnxruntime/test_fusion.py
asks again). Left out on purpose: ReduceMean, Sub, Div, HardSwish, Gelu and Tanh, which it computes in float
between a DequantizeLinear and a QuantizeLinear (and HardSigmoid, ConvTranspose, a Resize that is not "nearest"); a Relu
with no integer operator before it; Softmax, whose integer kernel loses what attention needs; Conv from the dynamic
operators (ConvInteger is slower than float).
"""

from __future__ import annotations

from dataclasses import replace

from edgeport.backends.qdq.operators import MOVES, RELU_LIKE, operator_rules
from edgeport.contracts import OperatorRule, QuantizationRules, RecurrentRule
from edgeport.errors import PlanError

__all__ = ["arm_rules", "rules_for", "x86_rules"]

_OPERATORS = operator_rules(
    (
        *("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat"),
        *("GlobalAveragePool", "AveragePool", "LeakyRelu", "Sigmoid"),
        *(*MOVES, "Slice", "Gather", "Expand", "DepthToSpace", "Resize", "Split", "Pad"),
    ),
    {
        "Resize": OperatorRule(same_scale=True, only={"mode": ("nearest",)}),
        "Pad": OperatorRule(same_scale=True, only={"mode": ("constant",)}),
    },
)
_FOLDING = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool")

_FUSED = {**dict.fromkeys(_FOLDING, RELU_LIKE), "MatMul": ("Bias", *RELU_LIKE)}
"""A MatMul's bias is written into its kernel (`passes/matmul_bias.py`)."""

_RECURRENT = {"LSTM": RecurrentRule(weights=(1, 2), only={"layout": ("0",)})}
"""W and R: `recurrent.py`."""

_STORED = {"MatMul": 1, "Gemm": 1, "Gather": 0}
_FLOAT_WEIGHTS = {
    "Conv": "ONNX Runtime brings a convolution's integer weights back to float in every call, which took 11 times as "
    "long as float"
}
"""Four convolutions of 128 channels on 16x16 took 15.3 ms so, and 1.4 ms in float (one thread, a busy machine)."""


def x86_rules(*, vnni: bool) -> QuantizationRules:
    """uint8 activations, int8 weights per channel: what the u8*s8 instructions of x86 take.

    Args:
        vnni: The processor sums u8*s8 products in 32 bits. Without it they are summed in 16 bits and saturate, so
            weights get one bit less.

    """
    return QuantizationRules(
        dialect="onnxruntime-x86",
        activation_dtype="uint8",
        activation_symmetric=False,
        weight_reduce_range=not vnni,
        operators=_OPERATORS,
        fused=_FUSED,
        dynamic_operators=("MatMul", "Gemm"),
        recurrent_operators=_RECURRENT,
        weight_operators=_STORED,
        block_operators=tuple(_STORED),
        float_weights=_FLOAT_WEIGHTS,
        quantize_bias=True,
    )


def arm_rules() -> QuantizationRules:
    """int8 activations, int8 weights per channel: what the sdot instruction of ARM takes.

    The activations have a zero point. With a zero point of 0 a Relu is no longer the saturation of its
    QuantizeLinear, so the runtime keeps it, and the convolution before it falls back to float.
    """
    return replace(x86_rules(vnni=True), dialect="onnxruntime-arm", activation_dtype="int8")


def rules_for(dialect: str, *, vnni: bool) -> QuantizationRules:
    """The rules of that name.

    Raises:
        PlanError: ONNX Runtime has no such dialect.

    """
    table = {"onnxruntime-x86": x86_rules(vnni=vnni), "onnxruntime-arm": arm_rules()}
    if dialect not in table:
        raise PlanError(
            asked=f"compile a plan of the dialect {dialect!r} for ONNX Runtime",
            found="another backend's dialect",
            fix=f"make the plan with the rules that the backend's capabilities give ({' or '.join(table)})",
        )
    return table[dialect]
