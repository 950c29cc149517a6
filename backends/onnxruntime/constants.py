"""Names and limits of ONNX Runtime that several modules of this folder need."""

from __future__ import annotations

__all__ = [
    "BROKEN_FUSION",
    "ENTRY",
    "FAST_BF16",
    "LEVELS",
    "LOWEST_VERSION",
    "NAME",
    "OWN_DOMAINS",
    "QUANTIZED_BY_RUNTIME",
    "SESSION",
    "SLOW_FUSION",
    "WEIGHT_QUANTIZER",
]

NAME = "onnxruntime"
ENTRY = "model.onnx"
SESSION = "edgeport.backends.onnxruntime.session"
LOWEST_VERSION = (1, 22)
QUANTIZED_BY_RUNTIME = ("Conv", "ConvTranspose", "Gemm")
WEIGHT_QUANTIZER = "WeightBiasQuantization"
"""The runtime's optimizer that quantizes the weights of such a product where it stands between a DequantizeLinear and a
QuantizeLinear. A product that the plan keeps in float would become integer after all; a ConvTranspose, which has no
integer kernel, would have its weights brought back to float in every call."""
SLOW_FUSION = "SkipLayerNormFusion"
"""The runtime's optimizer that makes one kernel of a sum and the LayerNormalization behind it. On x86 the one takes six
times as long as the two (96 rows of 384 numbers on one thread: 142 us against 24)."""
BROKEN_FUSION = "ConvAddActivationFusion"
"""The runtime's optimizer that makes one kernel of a Conv and the Add behind it. In 1.32 also where the Conv's result
is an output of the graph (a grouped one with a bias), which nobody makes then: the model does not open."""
LEVELS = ("all", "extended", "basic")
FAST_BF16 = "mlas.enable_gemm_fastmath_arm64_bfloat16"
"""Session entry: float32 products are computed in bfloat16, on ARM64 processors that have the instructions."""
OWN_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc", "ai.onnx.preview.training")
"""Domains beside the standard's whose operators are in the runtime's own packages."""
