"""The rules of the dialect `openvino`: what OpenVINO's CPU plugin runs in int8.

Found by reading runtime models of 2026.4 (`placement.py`), and by timing:

- A residual Add is integer: convolution, Add, activation and quantization then run as one kernel. In float each Add is
  a kernel of its own, and a ResNet-20 takes 10 % longer.
- Mul and Sigmoid stay float: quantized, `x * sigmoid(x)` is no longer folded into the convolution before it, and a
  block with SiLU took twice as long (0.9 ms, 0.42 ms).
- Products of two activations stay float: attention is one fused kernel, which integers would split.
- A pair behind Reshape, MaxPool and the like costs nothing while it has the scale of the pair before.

Where the pairs stand is in `dialect.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeport.contracts import OperatorRule, QuantizationRules
from edgeport.hardware import has_vnni, is_x86

__all__ = ["DIALECT", "rules_for", "weight_only"]

DIALECT = "openvino"

_ONE = OperatorRule()
_ALL = OperatorRule(inputs=(-1,))
_MOVES = OperatorRule(same_scale=True)

OPERATORS: dict[str, OperatorRule] = {
    "Conv": OperatorRule(weight=1, weight_axis=0, bias=2),
    "ConvTranspose": OperatorRule(weight=1, weight_axis=1, bias=2),
    "Gemm": OperatorRule(weight=1, weight_axis=0, bias=2),
    # With a constant second factor only; the Add of its bias is folded in.
    "MatMul": OperatorRule(weight=1, weight_axis=-1),
    "Add": _ALL,
    "Concat": _ALL,
    "AveragePool": _ONE,
    "GlobalAveragePool": _ONE,
    "ReduceMean": _ONE,
    "MaxPool": _MOVES,
    "Reshape": _MOVES,
    "Flatten": _MOVES,
    "Transpose": _MOVES,
    "Squeeze": _MOVES,
    "Unsqueeze": _MOVES,
}

_ACTIVATIONS = (
    "Relu",
    "Clip",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "HardSwish",
    "Sigmoid",
    "HardSigmoid",
    "Tanh",
    "Gelu",
    "Mish",
)
FUSED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "Add"), _ACTIVATIONS),
    "MatMul": ("Add", *_ACTIVATIONS),
}

_WEIGHT_ONLY = ("Gemm", "MatMul")


def rules_for() -> QuantizationRules:
    """The rules for this machine's processor.

    Without VNNI, x86 adds pairs of u8*s8 products in 16 bits, which saturate; weights give up one bit there.
    """
    return QuantizationRules(
        dialect=DIALECT,
        activation_dtype="uint8",
        activation_symmetric=False,
        weight_dtype="int8",
        weight_per_channel=True,
        weight_reduce_range=is_x86() and not has_vnni(),
        operators=OPERATORS,
        fused=FUSED,
        dynamic_operators=_WEIGHT_ONLY,
    )


def weight_only(rules: QuantizationRules) -> QuantizationRules:
    """The same dialect with no ranges asked of MatMul and Gemm.

    OpenVINO has its own dynamic int8: it is given int8 weights behind a DequantizeLinear and float activations, and
    quantizes these itself, in groups along the reduced axis.
    """
    operators: Mapping[str, OperatorRule] = {
        name: replace(rule, inputs=()) if name in _WEIGHT_ONLY else rule for name, rule in rules.operators.items()
    }
    return replace(rules, operators=operators)
