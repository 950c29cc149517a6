"""The rules of the dialect `openvino`: what OpenVINO's CPU plugin runs in int8.

Found by reading runtime models of 2026.4 (`placement.py`), and by timing:

- A residual Add is integer: convolution, Add, activation and quantization then run as one kernel. In float each Add is
  a kernel of its own, and a ResNet-20 takes 10 % longer.
- A sum that a LayerNormalization reads (the residual of a transformer) is float: its integers would be brought back to
  float by a kernel of their own, and the product before writes float as cheaply. A small vision transformer took 5 %
  less so, a MiniLM as long as before.
- `x * sigmoid(x)` is folded into the convolution before it, as long as no pair stands before or inside it; with pairs a
  block with SiLU took twice as long (0.9 ms, 0.42 ms). Other products of activations stay float.
- A HardSigmoid is never folded: the plugin has it as a float kernel of its own.
- A transposed convolution with groups has no integer kernel.
- Products of two activations stay float: attention is one fused kernel, which integers would split.
- Weights of 8 and 4 bits alone stay so in products (FullyConnected), where blocks divide the summed axis. A table in
  blocks becomes float32 when the model is compiled; one of 8 bits with a scale per row stays as it is.
- A pair behind Reshape, MaxPool, Gather and the like costs nothing while it has the scale of the pair before.

Where the pairs stand is in `dialect.py`.
"""

from __future__ import annotations

from dataclasses import replace

from edgeport.backends.qdq.operators import (
    BY_CONSTANT,
    CURVES,
    MOVES,
    OPERATORS,
    RELU_LIKE,
    fold_behind_products,
    operator_rules,
)
from edgeport.contracts import QuantizationRules, RecurrentRule
from edgeport.hardware import has_vnni, is_x86

__all__ = ["DIALECT", "rules_for"]

DIALECT = "openvino"

_OPERATORS = operator_rules(
    (
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat"),
        *("AveragePool", "GlobalAveragePool", "ReduceMean"),
        *(*MOVES, "Slice", "Split", "Gather", "Resize", "DepthToSpace"),
    ),
    {
        "Add": replace(OPERATORS["Add"], float_before=("LayerNormalization",)),
        "MatMul": BY_CONSTANT,
        "ConvTranspose": replace(OPERATORS["ConvTranspose"], only={"group": ("1",)}),
        "Resize": replace(OPERATORS["Resize"], only={"mode": ("nearest",)}),
    },
)
_FUSED = fold_behind_products(*RELU_LIKE, *CURVES, "PRelu", "Mish", "Swish")

_RECURRENT = {
    "LSTM": RecurrentRule(
        weights=(1, 2),
        absent=(4, 7),  # lengths of sequences, peepholes
        only={"layout": ("0",), "direction": ("forward",), "input_forget": ("0",), "clip": (), "activations": ()},
        within_one=True,
    )
}
"""See `recurrent.py`."""

_WEIGHT_ONLY = ("Gemm", "MatMul")
_STORED = {"Gemm": 1, "MatMul": 1, "Gather": 0}


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
        operators=_OPERATORS,
        fused=_FUSED,
        dynamic_operators=_WEIGHT_ONLY,
        recurrent_operators=_RECURRENT,
        weight_operators=_STORED,
        block_operators=_WEIGHT_ONLY,
        float_weights={"Conv": "OpenVINO makes float32 of a convolution's integer weights when it compiles"},
        whole_blocks=True,
        mixed_floats=True,
    )
