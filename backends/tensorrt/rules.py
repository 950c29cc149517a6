"""The rules of the dialect `tensorrt`: symmetric int8 with zero point 0, weights per channel, float bias.

TensorRT refuses other zero points and biases behind a DequantizeLinear. Weights alone may be int8 per channel, those of
convolutions too, or int4 in blocks that divide the summed axis of a product; it refuses uint4. Where the pairs stand
follows "Working with Quantized Types" of its documentation: before what computes in integers, on both sides of a
residual Add, and not behind the last operator. Floats of 8 bits stand before what multiplies, and nowhere else.
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from edgeport.backends.qdq.operators import (
    BY_CONSTANT,
    CURVES,
    MOVES,
    RELU_LIKE,
    fold_behind_products,
    operator_rules,
)
from edgeport.contracts import QuantizationRules

__all__ = ["DIALECT", "rules"]

DIALECT = "tensorrt"

_OPERATORS = operator_rules(
    (
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat"),
        *("AveragePool", "GlobalAveragePool"),
        *MOVES,
    ),
    {"MatMul": BY_CONSTANT},
)
_FUSED = fold_behind_products(*RELU_LIKE, *CURVES, "HardSigmoid")


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
        weight_operators={"Gemm": 1, "MatMul": 1, "Conv": 1},
        block_operators=("Gemm", "MatMul"),
        whole_blocks=True,
        mixed_floats=True,
        float8_operators=("Conv", "Gemm", "MatMul"),
    )
