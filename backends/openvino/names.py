"""Names of operations in an IR, and the ONNX nodes that they lead back to."""

from __future__ import annotations

import re

__all__ = ["GENERATED", "onnx_name"]

GENERATED = "~"
"""First character of names that OpenVINO made up; no ONNX node of ours begins with it."""

_SUFFIX = re.compile(r"(/WithoutBiases|/LSTMSequence|/Dequantization\w+|/transpose_[ab]|/sink_port_\d+)+$")


def onnx_name(name: str) -> str:
    """The ONNX node's name in the name of what OpenVINO made of it ("conv/WithoutBiases")."""
    return _SUFFIX.sub("", name)
