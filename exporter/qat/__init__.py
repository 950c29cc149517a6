"""Quantization-aware training: weights and ranges that suit a plan, learned with its rounding in the forward pass."""

from edgeport.exporter.qat.options import QatOptions, QatResult

__all__ = ["QatOptions", "QatResult"]
